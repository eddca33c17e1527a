"""Root-mean-square normalisation, by itself or after the residual sum: the definition."""

from __future__ import annotations

import torch

from server.kernels import norm
from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.room import empty_rows
from server.kernels.triton.twins.lora import expanded


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, *, room: int = 0) -> torch.Tensor:
    """Normalise each row of `x` [tokens, hidden] by its root mean square, then scale by `weight`.

    Computed in fp32 and rounded once before the scale. room: columns that each row of the result
    has behind it.
    """
    return empty_rows(x, x.shape[1], room).copy_(norm.rms_norm(x, weight, eps))


def add_rms_norm(
    residual: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    delta: LoraDelta | None = None,
    room: int = 0,
) -> torch.Tensor:
    """Add `x` to `residual` [tokens, hidden] in place (rounded), then `rms_norm` of the sum.

    delta: what adapters add to `x` before, rounded once; `x` itself stays as it is. room: as for
    `rms_norm`.
    """
    residual += expanded(x, delta)
    return rms_norm(residual, weight, eps, room=room)
