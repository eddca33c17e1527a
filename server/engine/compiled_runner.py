"""The model runner of CPUs that the compiled kernels support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from server.engine.compiled_slots import CompiledSlots
from server.engine.config import GROUPS, ModelConfig
from server.engine.row_layout import NO_ROWS, RowStep
from server.engine.weights import LayerWeights, ModelWeights
from server.kernels.cpu.forward import PHASES_BESIDE, PHASES_PER_LAYER, forward
from server.kernels.cpu.phases import PHASE_BYTES
from server.kernels.cpu.records import LAYER, MODEL, ROOM, STEP
from server.kernels.cpu.team import Team
from server.kernels.linear import DenseLinear, Linear, Nf4Linear
from server.kernels.norm import rms_norm
from server.kernels.rope import RopeTable

NO_WINDOW = 2**40  # positions
OUTPUTS_PER_THREAD = 64  # with fewer, threads wait for one another longer than they work
Records = np.ndarray[Any, Any]


class CompiledRunner:
    """MistralForCausalLM over a paged KV cache, each row with its own adapter, in one call.

    cache: [layers, 2, blocks, block_size, kv_heads, head_dim], keys before values.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        slots: CompiledSlots,
        *,
        num_blocks: int,
        block_size: int,
        max_context: int,
        num_threads: int,
    ) -> None:
        self.config = config
        self.weights = weights
        self.cache = torch.zeros(
            (config.num_layers, 2, num_blocks, block_size, config.num_kv_heads, config.head_dim),
            dtype=torch.bfloat16,
        )
        self._rope = RopeTable.build(
            head_dim=config.head_dim,
            num_positions=max_context,
            theta=config.rope_theta,
            like=weights.embedding,
        )
        self._slots = slots  # the records below hold addresses of its tensors
        self._model = _describe_model(config, weights, self._rope, block_size)
        self._layers = _describe_layers(config, weights, slots, self.cache)
        self._team = Team(min(num_threads, config.hidden_size // OUTPUTS_PER_THREAD))
        self._max_context = max_context
        self._buffers = _Buffers(config, slots, self._team.size, max_context, rows=16)
        self.forward(NO_ROWS)  # compiles the kernels, if they are not on disk

    def forward(self, step: RowStep) -> torch.Tensor:
        """Logits [samples, vocab] of the rows that sample, in bf16."""
        if len(step.positions) > self._buffers.rows:
            self._buffers = _Buffers(
                self.config,
                self._slots,
                self._team.size,
                self._max_context,
                rows=len(step.positions),
            )
        logits = torch.empty(len(step.sample_rows), self.config.vocab_size, dtype=torch.bfloat16)
        self._team.run(_Pass(self._model, self._layers, step, self._buffers, logits))
        return logits

    def final_states(self, start: int, end: int) -> torch.Tensor:
        """[rows, hidden] after the final norm, of the newest step's rows from one to another."""
        hidden = self._buffers.tensors["hidden"][start:end]
        return rms_norm(hidden, self.weights.final_norm, self.config.rms_norm_eps)


class _Pass:
    """One forward pass, for the threads of a team; keeps what its addresses are of."""

    def __init__(
        self,
        model: Records,
        layers: Records,
        step: RowStep,
        buffers: _Buffers,
        logits: torch.Tensor,
    ) -> None:
        self._model, self._layers = model, layers
        self._step, self._buffers, self._logits = step, buffers, logits
        self._tables = step.blocks.ctypes.data + 8 * step.table_starts
        num_phases = PHASES_BESIDE + PHASES_PER_LAYER * len(layers)
        self._counters = np.zeros(num_phases * PHASE_BYTES, np.uint8)
        self._described = self._describe()

    def __call__(self, number: int) -> None:
        room = self._buffers.rooms[number]
        forward(self._model, self._layers, self._described, self._step.runs, room)

    def _describe(self) -> Records:
        step = self._step
        values = {
            "num_rows": len(step.positions),
            "num_samples": len(step.sample_rows),
            "token_ids": step.token_ids.ctypes.data,
            "positions": step.positions.ctypes.data,
            "kv_slots": step.kv_slots.ctypes.data,
            "tables": self._tables.ctypes.data,
            "sample_rows": step.sample_rows.ctypes.data,
            "logits": self._logits.data_ptr(),
            "counters": self._counters.ctypes.data,
            **_addresses(self._buffers.tensors),
        }
        return _filled(STEP, values)


class _Buffers:
    """What the phases of a step hand one another, and each thread's own scratch memory."""

    def __init__(
        self,
        config: ModelConfig,
        slots: CompiledSlots,
        num_threads: int,
        positions: int,
        *,
        rows: int,
    ) -> None:
        self.rows = rows
        query, key = (n * config.head_dim for n in (config.num_heads, config.num_kv_heads))
        self.tensors = {
            "hidden": torch.empty(rows, config.hidden_size, dtype=torch.bfloat16),
            "normed": torch.empty(rows, config.hidden_size, dtype=torch.bfloat16),
            "qkv": torch.empty(rows, query + 2 * key, dtype=torch.bfloat16),
            "attended": torch.empty(rows, query, dtype=torch.bfloat16),
            "gated": torch.empty(rows, config.intermediate_size, dtype=torch.bfloat16),
            "shrunk": torch.empty(slots.most_ranks, rows),
        }
        widest = max(config.group_shape(group)[1] for group in GROUPS)
        self._scratch = [
            {
                "weights": torch.empty(16, widest, dtype=torch.bfloat16),
                "sums": torch.empty(2, rows, 16),
                "scores": torch.empty(positions + 32),
            }
            for _ in range(num_threads)
        ]
        self.rooms = [_filled(ROOM, _addresses(scratch)) for scratch in self._scratch]


def _addresses(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


def _filled(kind: np.dtype[np.void], values: Mapping[str, Any]) -> Records:
    """One record of a kind, all of its fields named."""
    record = np.zeros(1, kind)
    assert set(values) == set(kind.names or ())
    for name, value in values.items():
        record[name] = value
    return record


def _describe_model(
    config: ModelConfig, weights: ModelWeights, rope: RopeTable, block_size: int
) -> Records:
    values: dict[str, Any] = {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "block_size": block_size,
        "window": config.sliding_window or NO_WINDOW,
        "embedding": weights.embedding.data_ptr(),
        "cos": rope.cos.data_ptr(),
        "sin": rope.sin.data_ptr(),
        "final_norm": weights.final_norm.data_ptr(),
        "head": _describe_weight(DenseLinear(weights.head)),
        "eps": config.rms_norm_eps,
    }
    return _filled(MODEL, values)


def _describe_layers(
    config: ModelConfig, weights: ModelWeights, slots: CompiledSlots, cache: torch.Tensor
) -> Records:
    layers = np.zeros(config.num_layers, LAYER)
    for index, layer in enumerate(weights.layers):
        for group in GROUPS:
            layers[index][group]["weight"] = _describe_weight(_linear(layer, group))
            layers[index][group]["factors"] = slots.describe((index, group))
        layers[index]["input_norm"] = layer.input_norm.data_ptr()
        layers[index]["post_attention_norm"] = layer.post_attention_norm.data_ptr()
        layers[index]["keys"] = cache[index, 0].data_ptr()
        layers[index]["values"] = cache[index, 1].data_ptr()
    return layers


def _linear(layer: LayerWeights, group: str) -> Linear:
    linear: Linear = getattr(layer, group)
    return linear


def _describe_weight(linear: Linear) -> tuple[int, ...]:
    """A WEIGHT."""
    if isinstance(linear, Nf4Linear):
        weight = linear.weight
        assert weight.codes.is_contiguous()
        assert weight.absmax.is_contiguous()
        places = (weight.codes.data_ptr(), weight.absmax.data_ptr(), 0)
        return (*places, weight.out_features, weight.in_features)
    assert isinstance(linear, DenseLinear)
    assert linear.weight.is_contiguous()
    return (0, 0, linear.weight.data_ptr(), *linear.weight.shape)
