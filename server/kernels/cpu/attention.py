"""Paged attention of single queries, and what precedes it; twins: `server.kernels.rope.rotate`,
`server.kernels.attention.write_kv` and `attend`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from server.kernels.cpu import emit
from server.kernels.cpu.memory import read_int
from server.kernels.cpu.tile import STEP, Tile, add_products, empty_tile, tile_sums
from server.kernels.cpu.vector import (
    F32X16,
    LANES,
    Floats,
    all_lanes,
    at_least,
    exp,
    fused,
    lanes_between,
    largest,
    load_bf16,
    load_f32,
    rounded,
    store_bf16,
    store_f32,
    total,
)

BF16_BYTES, F32_BYTES = 2 * LANES, 4 * LANES  # of sixteen
NEVER = np.float32(-np.inf)


@njit
def rotate(x: int, cos: int, sin: int, head_dim: int, out: int) -> None:
    """Rotate one head at `x` by a position's row of the rope table, to `out`, which may be `x`."""
    half = head_dim  # bytes of half a head
    for low in range(0, half, BF16_BYTES):
        high = low + half
        lower, upper = load_bf16(x + low), load_bf16(x + high)
        turned = rounded(lower * load_bf16(cos + low))
        store_bf16(out + low, fused(upper, load_bf16(sin + low), turned))
        turned = rounded(upper * load_bf16(cos + high))
        store_bf16(out + high, fused(lower, load_bf16(sin + high), turned))


@njit
def copy(x: int, features: int, out: int) -> None:
    """Copy `features` bf16."""
    for offset in range(0, 2 * features, BF16_BYTES):
        store_bf16(out + offset, load_bf16(x + offset))


@njit
def attend(
    query: int,
    keys: int,
    values: int,
    table: int,
    first: int,
    end: int,
    block_size: int,
    stride: int,
    head_dim: int,
    scores: int,
    out: int,
) -> None:
    """Attention of one query head [head_dim] over positions `first` to `end` of its sequence.

    keys, values: where the KV head's vectors of block 0 begin, `stride` bytes from one position to
    the next; table: the sequence's block numbers (int64). scores: room for fp32 of as many
    positions. block_size must be a multiple of 16; the positions of a block beyond `end` count
    nothing, but must hold finite numbers.
    """
    start = first // LANES * LANES
    highest = all_lanes(NEVER)
    scale = all_lanes(np.float32(1 / math.sqrt(head_dim)))
    for position in range(start, end, LANES):
        block = read_int(table + 8 * (position // block_size))
        there = keys + (block * block_size + position % block_size) * stride
        tile = empty_tile()
        for offset in range(0, 2 * head_dim, STEP):
            tile = add_products(tile, query + offset, 0, there + offset, stride, 1, LANES)
        found = lanes_between(tile_sums(tile) * scale, first - position, end - position, NEVER)
        highest = at_least(found, highest)
        store_f32(scores + 4 * (position - start), found)
    divisor = _exponentiate(scores, start, end, largest(highest))
    if head_dim == 128:
        _average_128(values, table, start, end, block_size, stride, scores, divisor, out)
    elif head_dim == 64:
        _average_64(values, table, start, end, block_size, stride, scores, divisor, out)
    else:
        _average_32(values, table, start, end, block_size, stride, scores, divisor, out)


@njit
def _exponentiate(scores: int, start: int, end: int, highest: float) -> float:
    """Replace scores by the weights they stand for, and return the sum of these."""
    sums = all_lanes(np.float32(0))
    for there in range(scores, scores + 4 * (end - start), F32_BYTES):
        weights = exp(load_f32(there) - all_lanes(highest))
        store_f32(there, weights)
        sums = sums + weights
    return total(sums)


@intrinsic(prefer_literal=True)
def _add_weighted(
    _context: Any, sums: Any, weights: Any, vectors: Any, stride: Any, head_dim: Any
) -> Any:
    """Add the next positions' vectors, each times its fp32 weight.

    Sixteen independent sums: of as many parts of sixteen as a vector has, for as many positions.
    """

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        sums, weights, vectors, stride = values[:4]
        parts = head_dim.literal_value // LANES
        for index in range(LANES):
            position, part = divmod(index, parts)
            weight = emit.load(builder, emit.after(builder, weights, 4 * position), emit.FLOAT)
            vector = builder.add(vectors, builder.mul(stride, emit.INT64(position)))
            words = emit.load(
                builder,
                emit.after(builder, vector, BF16_BYTES * part),
                emit.vector(emit.INT16, LANES),
            )
            factors = [emit.widen(builder, words), emit.spread(builder, weight, LANES)]
            terms = [*factors, builder.extract_value(sums, index)]
            added = emit.call(builder, "llvm.fma.v16f32", F32X16, terms)
            sums = builder.insert_value(sums, added, index)
        return sums

    return Tile(Tile, types.int64, types.int64, types.int64, head_dim), code


@intrinsic(prefer_literal=True)
def _store_average(_context: Any, out: Any, sums: Any, factor: Any, head_dim: Any) -> Any:
    """Add up the sums of all positions, times `factor`, to `head_dim` bf16 at `out`."""

    def code(context: Any, builder: Any, _s: Any, values: Any) -> Any:
        out, sums, factor = values[:3]
        parts = head_dim.literal_value // LANES
        for part in range(parts):
            terms = [builder.extract_value(sums, index) for index in range(part, LANES, parts)]
            while len(terms) > 1:
                half = len(terms) // 2
                pairs = zip(terms[:half], terms[half:], strict=True)
                terms = [builder.fadd(left, right) for left, right in pairs]
            average = builder.fmul(terms[0], factor)
            there = emit.after(builder, out, BF16_BYTES * part)
            emit.store(builder, there, emit.narrow(builder, average))
        return context.get_dummy_value()

    return types.void(types.int64, Tile, Floats, head_dim), code


def _average(head_dim: int) -> Any:
    """The weighted average of a sequence's values, for heads of one size."""
    together = LANES * LANES // head_dim  # positions

    @njit
    def average(
        values: int,
        table: int,
        start: int,
        end: int,
        block_size: int,
        stride: int,
        weights: int,
        divisor: float,
        out: int,
    ) -> None:
        sums = empty_tile()
        for position in range(start, end, LANES):
            block = read_int(table + 8 * (position // block_size))
            vectors = values + (block * block_size + position % block_size) * stride
            for _ in range(0, min(LANES, end - position), together):
                sums = _add_weighted(sums, weights, vectors, stride, head_dim)
                weights += 4 * together
                vectors += stride * together
        _store_average(out, sums, all_lanes(np.float32(1) / divisor), head_dim)

    return average


_average_32, _average_64, _average_128 = (_average(head_dim) for head_dim in (32, 64, 128))
