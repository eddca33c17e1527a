"""Root-mean-square normalisation that keeps its input and one number a row for the way back."""

from __future__ import annotations

from typing import Any

import torch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`x` [..., hidden] over its root mean square, rounded, times a frozen `weight` [hidden]."""
    normed: torch.Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return normed


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        normed, inverse = normalise(rows, weight, eps)
        ctx.save_for_backward(rows, weight, inverse)
        return normed.view(x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        rows, weight, inverse = ctx.saved_tensors
        flat = gradient.reshape(rows.shape).contiguous()
        return normalise_back(flat, rows, weight, inverse).view(gradient.shape), None, None


def normalise(
    x: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`x` [rows, hidden] normalised and scaled, and 1 / rms [rows] in fp32."""
    if x.is_cuda:
        from .kernels import norm

        return norm.normalise(x, weight, eps)
    wide = x.float()
    inverse = torch.rsqrt(wide.pow(2).mean(-1) + eps)
    return weight * (wide * inverse[:, None]).to(x.dtype), inverse


def normalise_back(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor
) -> torch.Tensor:
    """The gradient of `x`: (g w − x̂ · mean(g w x̂)) / rms, where x̂ = x / rms."""
    if x.is_cuda:
        from .kernels import norm

        return norm.normalise_back(gradient, x, weight, inverse)
    unit = x.float() * inverse[:, None]
    scaled = gradient.float() * weight.float()
    along = (scaled * unit).mean(-1, keepdim=True)
    return ((scaled - unit * along) * inverse[:, None]).to(x.dtype)
