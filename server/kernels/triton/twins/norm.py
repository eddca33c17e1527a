"""Root-mean-square normalisation, by itself or after the residual sum: the definition."""

from __future__ import annotations

import torch

from server.kernels.norm import rms_norm
from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.twins.lora import expanded

__all__ = ["add_rms_norm", "rms_norm"]


def add_rms_norm(
    residual: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    delta: LoraDelta | None = None,
) -> torch.Tensor:
    """Add `x` to `residual` [tokens, hidden] in place (rounded), then `rms_norm` of the sum.

    delta: what adapters add to `x` before, rounded once; `x` itself stays as it is.
    """
    residual += expanded(x, delta)
    return rms_norm(residual, weight, eps)
