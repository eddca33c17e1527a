"""Bring a checkpoint into the form that the runner multiplies with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from server.engine.config import GROUPS, EngineSettings, ModelConfig
from server.engine.kept_nf4 import KeptNf4
from server.engine.quantizer import bitsandbytes as bnb
from server.errors import StartupError
from server.kernels.linear import DenseLinear, Linear, Nf4Linear, Nf4Weight, merge

Progress = Callable[[int, int], None]
"""Called with (layers ready, layers in all)."""
Quantized = tuple[torch.Tensor, Any]
"""bitsandbytes' packed codes and its QuantState."""
MakeLinear = Callable[[Sequence[Quantized]], Linear]
"""Makes one linear of the quantized weights of a group, one below the other."""
UNQUANTIZED = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer, its projections merged by input."""

    qkv: Linear
    o: Linear
    gate_up: Linear
    down: Linear
    input_norm: torch.Tensor
    post_attention_norm: torch.Tensor

    @property
    def nbytes(self) -> int:
        linears = (self.qkv, self.o, self.gate_up, self.down)
        return sum(linear.nbytes for linear in linears) + 2 * self.input_norm.nbytes


@dataclass(frozen=True)
class ModelWeights:
    """The resident base."""

    embedding: torch.Tensor  # [vocab, hidden]
    layers: tuple[LayerWeights, ...]
    final_norm: torch.Tensor
    head: torch.Tensor  # [vocab, hidden]; the embedding itself when tied

    @property
    def nbytes(self) -> int:
        head = 0 if self.head is self.embedding else self.head.nbytes
        return self.embedding.nbytes + head + sum(layer.nbytes for layer in self.layers)


def load_weights(
    folder: Path,
    config: ModelConfig,
    settings: EngineSettings,
    progress: Progress | None = None,
    make_linear: MakeLinear | None = None,
    kept: KeptNf4 | None = None,
) -> ModelWeights:
    """Read a bf16 or a ready NF4 (bitsandbytes) checkpoint; StartupError names what is missing.

    make_linear: what multiplies with weights that stay in 4 bits, where it is not `Nf4Linear`.
    kept: what was quantized at a former start, and will be of this one.
    """
    with _Checkpoint(folder, settings, kept) as checkpoint:
        layers = []
        for index in range(config.num_layers):
            layers.append(_load_layer(checkpoint, index, settings, make_linear))
            if progress is not None:
                progress(index + 1, config.num_layers)
        embedding = checkpoint.dense("model.embed_tokens.weight")
        return ModelWeights(
            embedding=embedding,
            layers=tuple(layers),
            final_norm=checkpoint.dense("model.norm.weight"),
            head=embedding if config.tied_embeddings else checkpoint.dense("lm_head.weight"),
        )


def _load_layer(
    checkpoint: _Checkpoint,
    index: int,
    settings: EngineSettings,
    make_linear: MakeLinear | None,
) -> LayerWeights:
    prefix = f"model.layers.{index}"
    linears: dict[str, Linear] = {}
    for group, projections in GROUPS.items():
        folder = "self_attn" if group in ("qkv", "o") else "mlp"
        names = [f"{prefix}.{folder}.{projection}.weight" for projection in projections]
        linears[group] = _load_group(checkpoint, names, settings, make_linear)
    return LayerWeights(
        **linears,
        input_norm=checkpoint.dense(f"{prefix}.input_layernorm.weight"),
        post_attention_norm=checkpoint.dense(f"{prefix}.post_attention_layernorm.weight"),
    )


def _load_group(
    checkpoint: _Checkpoint,
    names: list[str],
    settings: EngineSettings,
    make_linear: MakeLinear | None,
) -> Linear:
    if settings.weights == "dense":
        return DenseLinear(torch.cat([checkpoint.dense(name) for name in names]))
    quantized = [checkpoint.quantized(name) for name in names]
    if make_linear is not None:
        return make_linear(quantized)
    try:
        weight = merge([_decode_scales(codes, state) for codes, state in quantized])
    except ValueError as error:
        raise StartupError(f"{', '.join(names)} cannot be served as NF4: {error}") from error
    if settings.weights == "nf4-shadow":
        return DenseLinear(weight.dequantize(settings.dtype))
    return Nf4Linear(weight)


class _Checkpoint:
    """Safetensors shards of one folder, opened together and read tensor by tensor.

    What `kept` has of it already is read from there.
    """

    def __init__(self, folder: Path, settings: EngineSettings, kept: KeptNf4 | None) -> None:
        self._folder = folder
        self._dtype = settings.dtype
        self._device = torch.device(settings.device)
        self._kept = kept
        self._stack = ExitStack()
        self._where: dict[str, Any] = {}

    def __enter__(self) -> _Checkpoint:
        shards = list(_shards(self._folder))
        copy = self._stack.enter_context(self._kept.found()) if self._kept else None
        for shard in [*shards, copy] if copy else shards:
            file = self._stack.enter_context(safe_open(shard, framework="pt", device="cpu"))
            self._where.update(dict.fromkeys(file.keys(), file))
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.__exit__(*exc)

    def raw(self, name: str) -> torch.Tensor:
        file = self._where.get(name)
        if file is None:
            raise StartupError(f"the checkpoint in {self._folder} lacks the tensor {name!r}")
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor.to(self._device)

    def dense(self, name: str) -> torch.Tensor:
        tensor = self.raw(name)
        if tensor.dtype not in UNQUANTIZED:
            raise StartupError(
                f"{name!r} is {tensor.dtype}, so quantized; it is needed unquantized"
            )
        return tensor.to(self._dtype)

    def quantized(self, name: str) -> Quantized:
        """The tensor quantized by bitsandbytes now, or as its ready checkpoint holds it."""
        if f"{name}.absmax" in self._where:
            codes = self.raw(name)
            parts = {key: self.raw(key) for key in self._where if key.startswith(f"{name}.")}
            parts = {key.removeprefix(f"{name}."): value for key, value in parts.items()}
            state = bnb.QuantState.from_dict(parts, device=self._device)
        else:
            codes, state = bnb.quantize_4bit(
                self.dense(name), blocksize=64, compress_statistics=True, quant_type="nf4"
            )
            if self._kept is not None:
                self._kept.note(name, codes, state)
        _check_kind(state, name)
        return codes, state


def _check_kind(state: Any, name: str) -> None:
    if state.quant_type != "nf4" or state.blocksize != 64:
        raise StartupError(
            f"{name!r} is quantized as {state.quant_type} with blocks of {state.blocksize}; "
            "Hatstand serves NF4 with blocks of 64"
        )


def _decode_scales(codes: torch.Tensor, state: Any) -> Nf4Weight:
    absmax = state.absmax
    if state.nested:
        absmax = bnb.dequantize_blockwise(absmax, state.state2) + state.offset
    out_features, in_features = state.shape
    return Nf4Weight(codes.reshape(-1), absmax.float(), out_features, in_features)


def _shards(folder: Path) -> Iterator[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        yield from (folder / name for name in names)
    elif (folder / "model.safetensors").is_file():
        yield folder / "model.safetensors"
    else:
        raise StartupError(
            f"{folder} holds no model.safetensors; fetch a base with `hatstand base pull`"
        )
