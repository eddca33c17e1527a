"""What shape the base has, and how much the engine may hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from registry.adapters import Projection
from server.errors import StartupError

WeightMode = Literal["auto", "nf4", "nf4-shadow", "dense"]
GemmMode = Literal["exact", "fast", "batch-invariant"]
SMALL_COPY = 2**30  # bytes; a dequantized copy up to this size is made without being asked for
GROUPS: Mapping[str, tuple[Projection, ...]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""Projections that read the same input are multiplied as one."""
REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "rms_norm_eps",
)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a MistralForCausalLM, as its config.json states it."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context: int
    rms_norm_eps: float
    rope_theta: float
    sliding_window: int | None
    tied_embeddings: bool

    @classmethod
    def read(cls, folder: Path) -> ModelConfig:
        """From a checkpoint folder; StartupError if it holds no Mistral that we can run."""
        path = folder / "config.json"
        if not path.is_file():
            raise StartupError(f"{folder} holds no config.json: is it a checkpoint folder?")
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except json.JSONDecodeError as error:
            raise StartupError(f"{path} is not JSON: {error}") from None

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ModelConfig:
        if config.get("model_type") != "mistral":
            raise StartupError(
                f"the base is a {config.get('model_type')!r} model; Hatstand serves Mistral "
                "(MistralForCausalLM, of any size)"
            )
        if config.get("hidden_act", "silu") != "silu":
            raise StartupError(f"unsupported hidden_act {config['hidden_act']!r}: expected 'silu'")
        if missing := [key for key in REQUIRED if key not in config]:
            raise StartupError(f"config.json lacks {', '.join(missing)}")
        heads = config["num_attention_heads"]
        kv_heads = config.get("num_key_value_heads") or heads
        if heads % kv_heads:
            raise StartupError(
                f"config.json has {heads} attention heads for {kv_heads} KV heads: as many of them "
                "have to share each"
            )
        return cls(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            max_context=config["max_position_embeddings"],
            rms_norm_eps=config["rms_norm_eps"],
            rope_theta=_rope_theta(config),
            sliding_window=config.get("sliding_window"),
            tied_embeddings=config.get("tie_word_embeddings", False),
        )

    @property
    def group_size(self) -> int:
        """Query heads that share one KV head."""
        return self.num_heads // self.num_kv_heads

    def projection_shape(self, projection: str) -> tuple[int, int]:
        """(out_features, in_features) of one of the seven projections."""
        query, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "q_proj": (query, self.hidden_size),
            "k_proj": (kv, self.hidden_size),
            "v_proj": (kv, self.hidden_size),
            "o_proj": (self.hidden_size, query),
            "gate_proj": (self.intermediate_size, self.hidden_size),
            "up_proj": (self.intermediate_size, self.hidden_size),
            "down_proj": (self.hidden_size, self.intermediate_size),
        }[projection]

    def group_shape(self, group: str) -> tuple[int, int]:
        """(out_features, in_features) of a merged group."""
        shapes = [self.projection_shape(projection) for projection in GROUPS[group]]
        return sum(out for out, _ in shapes), shapes[0][1]

    @property
    def num_linear_weights(self) -> int:
        """Weights of all projections, the part that is quantized."""
        shapes = [self.group_shape(group) for group in GROUPS]
        return self.num_layers * sum(out * into for out, into in shapes)

    def kv_bytes_per_token(self, dtype: torch.dtype) -> int:
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * dtype.itemsize


def _rope_theta(config: Mapping[str, Any]) -> float:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise StartupError(f"unsupported rope type {kind!r}: expected 'default'")
    return float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)


@dataclass(frozen=True)
class EngineSettings:
    """How much the engine may hold and do at once.

    kv_memory: bytes for the KV cache; None is half a GiB on CPU, and on a device what is left of
    `utilisation` of its free memory. max_batch: sequences decoding together. chunk: prompt tokens
    that one step may take beside them; lone_chunk: what one may take with nobody decoding, who
    would have to wait for it; None: no more. patience: steps that prompts beside decoding sequences
    wait for others whose adapters are on their way, to be computed together. max_waiting: sequences
    that may wait beyond max_batch. adapter_share: the part by which one adapter may lengthen
    others' steps while they are asked for too, 0 to 1.
    max_slots, max_rank: adapters ready at once, and the highest rank each may have. host_memory:
    bytes of adapters kept in host memory beside the slots. weights: `nf4` keeps 4-bit weights only;
    `nf4-shadow` holds the same values dequantized (same tokens, about four times the memory,
    faster in plain torch); `auto` takes the copy on CPU where it is small and plain torch runs;
    `dense` takes the checkpoint unquantized.
    fused: run steps by a device's fused kernels, beside the host; None: on CUDA devices. gemm: how
    weights in 4 bits are multiplied there: `exact` with those that QLoRA trained against, `fast`
    with their bf16 roundings, `batch-invariant` exactly and in one order whatever the batch.
    fp8_kv: keep keys and values in 8 bits there.
    """

    block_size: int = 16
    kv_memory: int | None = None
    utilisation: float = 0.9
    max_batch: int = 32
    chunk: int = 256
    lone_chunk: int | None = None
    patience: int = 0
    max_waiting: int = 256
    adapter_share: float = 1.0
    max_context: int | None = None
    max_slots: int = 16
    max_rank: int = 64
    host_memory: int = 2 * 2**30
    weights: WeightMode = "auto"
    dtype: torch.dtype = torch.bfloat16
    device: str = "cpu"
    prefix_cache: bool = True
    pinned: tuple[str, ...] = ()
    fused: bool | None = None
    gemm: GemmMode = "exact"
    fp8_kv: bool = False

    @classmethod
    def on(cls, device: str) -> EngineSettings:
        """The defaults for a device: one that is not the CPU takes more at once."""
        if device == "cpu":
            return cls()
        return cls(
            device=device, block_size=32, max_batch=128, chunk=2048, lone_chunk=4096, patience=2
        )

    @property
    def kv_dtype(self) -> torch.dtype:
        """What keys and values are kept in."""
        return torch.float8_e4m3fn if self.fp8_kv else self.dtype

    @property
    def largest_chunk(self) -> int:
        """Prompt tokens that a step has at most."""
        return max(self.chunk, self.lone_chunk or 0)

    @property
    def is_fused(self) -> bool:
        return self.device != "cpu" if self.fused is None else self.fused

    def for_model(self, config: ModelConfig, *, is_compiled: bool = False) -> EngineSettings:
        """The same settings with `auto` decided for one model.

        Compiled kernels are faster on 4-bit weights than on their copy.
        """
        if self.fp8_kv and not self.is_fused:
            raise StartupError("--fp8-kv needs a GPU: on CPU keys and values stay as they are")
        if self.is_fused and self.gemm == "batch-invariant" and self.weights == "nf4-shadow":
            raise StartupError(
                "--gemm batch-invariant and --shadow-bf16 exclude each other: many rows of the "
                "copy are summed in another order than few"
            )
        if self.weights != "auto":
            return self
        copy = config.num_linear_weights * self.dtype.itemsize
        shadow = self.device == "cpu" and copy <= SMALL_COPY and not is_compiled
        return replace(self, weights="nf4-shadow" if shadow else "nf4")
