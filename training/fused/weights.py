"""Frozen weights of any storage, made dense for one product at a time."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

from training.gptq import GptqLinear


class FrozenWeight(Protocol):
    """A weight [out, in] that is multiplied with and never changed."""

    out_features: int

    def dtype(self, x: torch.Tensor) -> torch.dtype:
        """What `x` is multiplied in."""
        ...

    def out_dtype(self, x: torch.Tensor) -> torch.dtype:
        """What the product with `x` is handed on in."""
        ...

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight [out, in]; a new tensor where it is stored packed."""
        ...


class Nf4Weight:
    """What bitsandbytes' `Linear4bit` multiplies with, the very same bits."""

    def __init__(self, layer: Any) -> None:
        self.out_features = int(layer.out_features)
        self._layer = layer

    def dtype(self, x: torch.Tensor) -> torch.dtype:
        """The layer's `compute_dtype`, as its own forward has it."""
        return self._layer.compute_dtype or x.dtype

    def out_dtype(self, x: torch.Tensor) -> torch.dtype:
        """That of `x`."""
        return x.dtype

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        weight, state = self._layer.weight, self._layer.weight.quant_state
        if weight.is_cuda:
            from .kernels.nf4 import dequantize

            made: torch.Tensor = dequantize(weight, state)
        else:
            made = dequantize_4bit(weight.data, state)
        return made.to(dtype)


class DenseWeight:
    """A weight that is kept in 16 or 32 bits."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        self.out_features = layer.out_features
        self._layer = layer

    def dtype(self, x: torch.Tensor) -> torch.dtype:
        """Autocast's, as torch chooses it for a linear layer."""
        return autocast_dtype(x.device) or self._layer.weight.dtype

    def out_dtype(self, x: torch.Tensor) -> torch.dtype:
        """The same."""
        return self.dtype(x)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        return self._layer.weight.detach().to(dtype)


class GptqWeight:
    """Packed numbers of a GPTQ checkpoint."""

    def __init__(self, layer: GptqLinear) -> None:
        self.out_features = layer.out_features
        self._layer = layer

    def dtype(self, x: torch.Tensor) -> torch.dtype:
        """That of `x`, as the layer's own forward has it. Were autocast's fp16 added to hidden
        states in bfloat16, they would be in fp32 from there on, and take twice the memory.
        """
        return x.dtype

    def out_dtype(self, x: torch.Tensor) -> torch.dtype:
        """The same."""
        return x.dtype

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        if self._layer.qweight.is_cuda:
            from .kernels.gptq import dequantize

            made: torch.Tensor = dequantize(self._layer, dtype)
            return made
        return self._layer.dense().to(dtype)


def frozen_weight(layer: Any) -> FrozenWeight | None:
    """The weight of a layer whose product is known here; None for any other."""
    if getattr(layer, "bias", None) is not None:
        return None
    if isinstance(layer, Linear4bit):
        state = getattr(layer.weight, "quant_state", None)
        return Nf4Weight(layer) if state is not None and state.quant_type == "nf4" else None
    if isinstance(layer, GptqLinear):
        return GptqWeight(layer)
    return DenseWeight(layer) if type(layer) is torch.nn.Linear else None


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What autocast rounds to here; None where it is off."""
    if not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)
