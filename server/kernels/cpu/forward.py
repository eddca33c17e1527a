"""One forward pass over rows of many sequences and adapters; twin: `MistralRunner.forward`.

Every thread of a team runs `forward` on the same step; `phases.py` says how they share it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from server.kernels.cpu.activation import silu_mul
from server.kernels.cpu.attention import attend, copy, rotate
from server.kernels.cpu.compiled import entry
from server.kernels.cpu.lora import expand, fetch, shrink
from server.kernels.cpu.memory import read_int
from server.kernels.cpu.norm import rms_norm
from server.kernels.cpu.phases import PHASE_BYTES, await_chunks, end_chunk, take_chunk
from server.kernels.cpu.product import OUTS, SUMS_STRIDE, decode_outs, multiply
from server.kernels.cpu.vector import all_lanes, load_bf16, load_f32, rounded, store_bf16, store_f32

FEW_ROWS = 16
PHASES_PER_LAYER = 12
PHASES_BESIDE = 3  # embedding, last norm, head


@entry
def forward(models: Any, layers: Any, steps: Any, runs: Any, rooms: Any) -> None:
    """Run the phases of one step; its logits are there when any thread returns.

    models, steps, rooms: one MODEL, one STEP, and the thread's own ROOM. layers: LAYER. runs: RUN.
    """
    model, step, room = models[0], steps[0], rooms[0]
    phase = _embed(model, layers, step, step.counters)
    for index in range(len(layers)):
        layer = layers[index]
        phase = _normalize(model, step, layer.input_norm, phase)
        phase = _shrink(layer.qkv, step, runs, step.normed, phase)
        phase = _project(layer.qkv, step, runs, room, phase)
        phase = _place(model, layer, step, phase)
        phase = _attend(model, layer, step, room, phase)
        phase = _shrink(layer.o, step, runs, step.attended, phase)
        phase = _project_onto(layer.o, step, runs, step.attended, room, phase)
        phase = _normalize(model, step, layer.post_attention_norm, phase)
        phase = _shrink(layer.gate_up, step, runs, step.normed, phase)
        phase = _project_gated(layer.gate_up, step, runs, room, phase)
        phase = _shrink(layer.down, step, runs, step.gated, phase)
        phase = _project_onto(layer.down, step, runs, step.gated, room, phase)
    phase = _normalize_samples(model, step, phase)
    _project_samples(model.head, step, room, phase)


@njit
def _embed(model: Any, layers: Any, step: Any, phase: int) -> int:
    """hidden = each row's embedding; blocks that a row is the first of are wiped."""
    width = 2 * model.hidden_size
    row = take_chunk(phase)
    while row < step.num_rows:
        token = read_int(step.token_ids + 8 * row)
        copy(model.embedding + token * width, model.hidden_size, step.hidden + row * width)
        slot = read_int(step.kv_slots + 8 * row)
        if slot % model.block_size == 0:
            _wipe_block(model, layers, slot)
        end_chunk(phase)
        row = take_chunk(phase)
    await_chunks(phase, step.num_rows)
    return phase + PHASE_BYTES


@njit
def _wipe_block(model: Any, layers: Any, slot: int) -> None:
    """Wipe what a block's last users left: masked, it counts nothing unless it is not finite."""
    features = model.num_kv_heads * model.head_dim
    zero = all_lanes(np.float32(0))
    for index in range(len(layers)):
        for part in (layers[index].keys, layers[index].values):
            start = part + 2 * slot * features
            for there in range(start, start + 2 * features * model.block_size, 2 * OUTS):
                store_bf16(there, zero)


@njit
def _normalize(model: Any, step: Any, weight: int, phase: int) -> int:
    """normed = hidden, normalised."""
    width = 2 * model.hidden_size
    row = take_chunk(phase)
    while row < step.num_rows:
        there = row * width
        rms_norm(step.hidden + there, weight, model.eps, model.hidden_size, step.normed + there)
        end_chunk(phase)
        row = take_chunk(phase)
    await_chunks(phase, step.num_rows)
    return phase + PHASE_BYTES


@njit
def _normalize_samples(model: Any, step: Any, phase: int) -> int:
    """normed = the hidden rows that sample, normalised, one after the other."""
    width = 2 * model.hidden_size
    sample = take_chunk(phase)
    while sample < step.num_samples:
        hidden = step.hidden + read_int(step.sample_rows + 8 * sample) * width
        out = step.normed + sample * width
        rms_norm(hidden, model.final_norm, model.eps, model.hidden_size, out)
        end_chunk(phase)
        sample = take_chunk(phase)
    await_chunks(phase, step.num_samples)
    return phase + PHASE_BYTES


@njit
def _shrink(site: Any, step: Any, runs: Any, x: int, phase: int) -> int:
    """shrunk = A(x) of every row's own adapter."""
    index = take_chunk(phase)
    while index < len(runs):
        shrink(site, runs[index], x, step.num_rows, step.shrunk)
        end_chunk(phase)
        index = take_chunk(phase)
    await_chunks(phase, len(runs))
    return phase + PHASE_BYTES


@njit
def _project(site: Any, step: Any, runs: Any, room: Any, phase: int) -> int:
    """qkv = the merged projection of normed."""
    width = 2 * site.weight.out_features
    num_chunks = _chunks(site.weight.out_features, step.num_rows)
    chunk = take_chunk(phase)
    while chunk < num_chunks:
        for column in _columns(chunk, site.weight.out_features, step.num_rows):
            _outputs(site, step, runs, step.normed, column, room.weights, room.sums)
            out = step.qkv + 2 * column
            for row in range(step.num_rows):
                store_bf16(out + row * width, load_f32(room.sums + row * SUMS_STRIDE))
        end_chunk(phase)
        chunk = take_chunk(phase)
    await_chunks(phase, num_chunks)
    return phase + PHASE_BYTES


@njit
def _project_onto(site: Any, step: Any, runs: Any, x: int, room: Any, phase: int) -> int:
    """hidden += the projection of `x`."""
    width = 2 * site.weight.out_features
    num_chunks = _chunks(site.weight.out_features, step.num_rows)
    chunk = take_chunk(phase)
    while chunk < num_chunks:
        for column in _columns(chunk, site.weight.out_features, step.num_rows):
            _outputs(site, step, runs, x, column, room.weights, room.sums)
            for row in range(step.num_rows):
                hidden = step.hidden + row * width + 2 * column
                store_bf16(hidden, load_bf16(hidden) + load_f32(room.sums + row * SUMS_STRIDE))
        end_chunk(phase)
        chunk = take_chunk(phase)
    await_chunks(phase, num_chunks)
    return phase + PHASE_BYTES


@njit
def _project_gated(site: Any, step: Any, runs: Any, room: Any, phase: int) -> int:
    """gated = silu(gate) * up of normed; the gate's outputs stand before those of up."""
    features = site.weight.out_features // 2
    num_chunks = _chunks(features, step.num_rows)
    ups = room.sums + step.num_rows * SUMS_STRIDE
    chunk = take_chunk(phase)
    while chunk < num_chunks:
        for column in _columns(chunk, features, step.num_rows):
            _outputs(site, step, runs, step.normed, column, room.weights, room.sums)
            _outputs(site, step, runs, step.normed, features + column, room.weights, ups)
            for row in range(step.num_rows):
                there = row * SUMS_STRIDE
                gated = silu_mul(load_f32(room.sums + there), load_f32(ups + there))
                store_bf16(step.gated + 2 * (row * features + column), gated)
        end_chunk(phase)
        chunk = take_chunk(phase)
    await_chunks(phase, num_chunks)
    return phase + PHASE_BYTES


@njit
def _project_samples(head: Any, step: Any, room: Any, phase: int) -> int:
    """logits = the head's product with normed."""
    width = 2 * head.out_features
    num_chunks = _chunks(head.out_features, step.num_samples)
    chunk = take_chunk(phase)
    while chunk < num_chunks:
        for start in _columns(chunk, head.out_features, step.num_samples):
            column = min(start, head.out_features - OUTS)
            weights = head.dense + column * 2 * head.in_features
            multiply(step.normed, step.num_samples, weights, head.in_features, room.sums)
            for sample in range(step.num_samples):
                out = step.logits + sample * width + 2 * column
                store_bf16(out, load_f32(room.sums + sample * SUMS_STRIDE))
        end_chunk(phase)
        chunk = take_chunk(phase)
    await_chunks(phase, num_chunks)
    return phase + PHASE_BYTES


@njit
def _place(model: Any, layer: Any, step: Any, phase: int) -> int:
    """Rotate queries where they are; put rotated keys, and values, into the cache."""
    head, heads = 2 * model.head_dim, model.num_heads + 2 * model.num_kv_heads
    row = take_chunk(phase)
    while row < step.num_rows:
        position = read_int(step.positions + 8 * row)
        cos, sin = model.cos + position * head, model.sin + position * head
        query = step.qkv + row * heads * head
        key = query + model.num_heads * head
        value = key + model.num_kv_heads * head
        place = read_int(step.kv_slots + 8 * row) * model.num_kv_heads * head
        for there in range(query, key, head):
            rotate(there, cos, sin, model.head_dim, there)
        for there in range(0, model.num_kv_heads * head, head):
            rotate(key + there, cos, sin, model.head_dim, layer.keys + place + there)
        copy(value, model.num_kv_heads * model.head_dim, layer.values + place)
        end_chunk(phase)
        row = take_chunk(phase)
    await_chunks(phase, step.num_rows)
    return phase + PHASE_BYTES


@njit
def _attend(model: Any, layer: Any, step: Any, room: Any, phase: int) -> int:
    """attended = each query's attention over its own sequence; a chunk is a row's KV head."""
    head, stride = 2 * model.head_dim, 2 * model.head_dim * model.num_kv_heads
    group = model.num_heads // model.num_kv_heads
    num_chunks = step.num_rows * model.num_kv_heads
    chunk = take_chunk(phase)
    while chunk < num_chunks:
        row, kv_head = divmod(chunk, model.num_kv_heads)
        keys, values = layer.keys + kv_head * head, layer.values + kv_head * head
        table = read_int(step.tables + 8 * row)
        end = read_int(step.positions + 8 * row) + 1
        first = max(0, end - model.window)
        query = step.qkv + row * (model.num_heads + 2 * model.num_kv_heads) * head
        out = step.attended + row * model.num_heads * head
        for there in range(kv_head * group * head, (kv_head + 1) * group * head, head):
            attend(
                query + there,
                keys,
                values,
                table,
                first,
                end,
                model.block_size,
                stride,
                model.head_dim,
                room.scores,
                out + there,
            )
        end_chunk(phase)
        chunk = take_chunk(phase)
    await_chunks(phase, num_chunks)
    return phase + PHASE_BYTES


@njit
def _outputs(site: Any, step: Any, runs: Any, x: int, column: int, scratch: int, sums: int) -> None:
    """Sixteen outputs of every row from `column` on, adapters included, to `sums` [rows, 16]."""
    weight, features = site.weight, site.weight.in_features
    for index in range(len(runs)):
        fetch(site, runs[index], column)
    if weight.codes:
        decode_outs(weight.codes, weight.scales, column, features, scratch)
        multiply(x, step.num_rows, scratch, features, sums)
    else:
        multiply(x, step.num_rows, weight.dense + column * 2 * features, features, sums)
    for row in range(sums, sums + step.num_rows * SUMS_STRIDE, SUMS_STRIDE):
        store_f32(row, rounded(load_f32(row)))
    for index in range(len(runs)):
        expand(site, runs[index], step.shrunk, step.num_rows, column, sums)


@njit
def _width(num_rows: int) -> int:
    """Outputs of a chunk: enough that taking it costs little beside computing it."""
    return 6 * OUTS if num_rows <= FEW_ROWS else 2 * OUTS


@njit
def _chunks(features: int, num_rows: int) -> int:
    width = _width(num_rows)
    return (features + width - 1) // width


@njit
def _columns(chunk: int, features: int, num_rows: int) -> range:
    """The first columns of a chunk's groups of sixteen outputs."""
    start, width = chunk * _width(num_rows), _width(num_rows)
    return range(start, min(start + width, features), OUTS)
