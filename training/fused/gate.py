"""SiLU(gate) · up (arXiv 2002.05202), of which only gate and up are kept."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import silu


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Elementwise, both [..., inner]."""
    product: torch.Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]
    return product


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return multiply(gate, up)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        return multiply_back(gradient.contiguous(), gate, up)


def multiply(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """SiLU(gate), rounded, times `up`."""
    if gate.is_cuda:
        from .kernels import gate as kernels

        return kernels.multiply(gate, up)
    return silu(gate) * up


def multiply_back(
    gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of `gate` and `up`: SiLU'(g) = σ(g) (1 + g (1 − σ(g)))."""
    if gate.is_cuda:
        from .kernels import gate as kernels

        return kernels.multiply_back(gradient, gate, up)
    wide, sigmoid = gate.float(), gate.float().sigmoid()
    of_gate = gradient.float() * up.float() * sigmoid * (1 + wide * (1 - sigmoid))
    of_up = gradient.float() * wide * sigmoid
    return of_gate.to(gate.dtype), of_up.to(up.dtype)
