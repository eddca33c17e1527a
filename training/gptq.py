"""Bases in GPTQ (arXiv 2210.17323), read as they are and multiplied in plain torch.

What training needs of a GPTQ package is one product with frozen weights, so that is what is here:
gptqmodel would bring thirty packages, numpy pinned to one version among them. `serve_on` says what
is served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import BaseError

PARTS = ("qweight", "qzeros", "scales", "g_idx")


class GptqLinear(nn.Linear):
    """A linear layer whose weight stays packed, and is unpacked each time it multiplies.

    `qweight` [in · bits / 32, out] and `qzeros` [groups, out · bits / 32] hold whole numbers of
    `bits` bits, eight 4-bit ones to an int32, lowest bits first; `scales` [groups, out]; `g_idx`
    [in] says which group an input feature is in. `zero_offset` is 1 where zero points are stored
    less one, as the format's first version does.
    """

    qweight: torch.Tensor
    qzeros: torch.Tensor
    scales: torch.Tensor
    g_idx: torch.Tensor

    def __init__(self, parts: Mapping[str, torch.Tensor], *, bits: int, zero_offset: int) -> None:
        nn.Module.__init__(self)  # Linear's own would make the dense weight
        for name in PARTS:
            self.register_buffer(name, parts[name])
        self.register_parameter("bias", None)
        self.in_features = len(self.g_idx)
        self.out_features = self.scales.shape[1]
        self.bits = bits
        self.zero_offset = zero_offset

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """What PEFT looks at for device and kind: the packed numbers, which it must not cast to."""
        return self.qweight

    def dense(self) -> torch.Tensor:
        """The weight that the packed numbers stand for, [out, in], in fp32."""
        values = unpack(self.qweight.t(), self.bits)  # [out, in]
        # A zero point of 0, stored less one, has wrapped around.
        zeros = (unpack(self.qzeros, self.bits) + self.zero_offset) & ((1 << self.bits) - 1)
        shifted = values.to(torch.int16) - zeros.t()[:, self.g_idx]
        return shifted.float() * self.scales.float().t()[:, self.g_idx]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [..., in] → [..., out] in x's dtype; gradients go to x alone."""
        product: torch.Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    """Unpacks once forward and once backward, so that no dense weight is kept between."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: GptqLinear) -> torch.Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.dense().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient @ ctx.layer.dense().to(gradient.dtype), None


def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """int32 [rows, columns] → uint8 [rows, columns · 32 / bits], lowest bits first.

    Byte by byte, as a little-endian machine has them: a quarter of the memory to go through.
    """
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    values = packed.contiguous().view(torch.uint8).unsqueeze(-1) >> shifts
    return (values & ((1 << bits) - 1)).flatten(-2)


def load_gptq(
    folder: Path, config: Any, *, dtype: torch.dtype, attention: str, place: torch.device
) -> Any:
    """The `MistralForCausalLM` of a GPTQ checkpoint, its projections as `GptqLinear`.

    Raises `BaseError` for a variant of the format that is not known.
    """
    from transformers import AutoModelForCausalLM

    bits, zero_offset = _variant(folder, dict(config.quantization_config))
    del config.quantization_config  # transformers would ask for gptqmodel
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    tensors = _read(folder)
    packed = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    for name in packed:
        parts = {part: tensors.pop(f"{name}.{part}") for part in PARTS}
        _replace(model, name, GptqLinear(parts, bits=bits, zero_offset=zero_offset))
    dense = {
        name: tensor.to(dtype)
        for name, tensor in tensors.items()
        if not (name.endswith(".bias") and not tensor.any())  # Mistral has none; some write zeros
    }
    missing, unexpected = model.load_state_dict(dense, strict=False, assign=True)
    own = {f"{name}.{part}" for name in packed for part in PARTS} | {"lm_head.weight"}
    missing = [name for name in missing if name not in own]
    model.tie_weights()
    if unexpected or missing or model.lm_head.weight.is_meta:
        raise BaseError(f"{folder}: missing {missing[:3]}, unexpected {unexpected[:3]}")
    _materialize_rotary(model, config)
    return model.requires_grad_(False).to(place)


def _variant(folder: Path, settings: dict[str, Any]) -> tuple[int, int]:
    bits = settings.get("bits")
    if bits not in (2, 4, 8):
        raise BaseError(f"{folder}: GPTQ with {bits} bits is not known; 2, 4 and 8 are")
    version = settings.get("checkpoint_format", "gptq")
    if version not in ("gptq", "gptq_v2"):
        raise BaseError(f"{folder}: GPTQ's format {version!r} is not known; gptq and gptq_v2 are")
    return bits, 1 if version == "gptq" else 0


def _replace(model: nn.Module, name: str, layer: GptqLinear) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _materialize_rotary(model: Any, config: Any) -> None:
    """Rotary frequencies are computed and in no checkpoint, so they are still on "meta"."""
    rotary = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(config=config)


def _read(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    tensors: dict[str, torch.Tensor] = {}
    for name in sorted(names):
        tensors |= load_file(folder / name)
    return tensors
