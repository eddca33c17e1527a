"""SiLU(gate) · up, elementwise."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_SIZE = 2048


def multiply(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """SiLU(gate), rounded, times `up`."""
    out = torch.empty_like(gate)
    count = gate.numel()
    _forward_kernel[(triton.cdiv(count, _SIZE),)](out, gate, up, count, size=_SIZE)
    return out


def multiply_back(
    gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of `gate` and `up`: SiLU'(g) = σ(g) (1 + g (1 − σ(g)))."""
    of_gate, of_up = torch.empty_like(gate), torch.empty_like(up)
    count = gate.numel()
    grid = (triton.cdiv(count, _SIZE),)
    _backward_kernel[grid](of_gate, of_up, gradient, gate, up, count, size=_SIZE)
    return of_gate, of_up


@triton.jit
def _forward_kernel(out, gate, up, count, size: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * size + tl.arange(0, size)
    inside = place < count
    value = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    dtype = out.dtype.element_ty
    active = (value * tl.sigmoid(value)).to(dtype).to(tl.float32)
    other = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, (active * other).to(dtype), mask=inside)


@triton.jit
def _backward_kernel(of_gate, of_up, gradient, gate, up, count, size: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * size + tl.arange(0, size)
    inside = place < count
    value = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    whole = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(value)
    slope = sigmoid * (1 + value * (1 - sigmoid))
    dtype = of_gate.dtype.element_ty
    tl.store(of_gate + place, (whole * other * slope).to(dtype), mask=inside)
    tl.store(of_up + place, (whole * value * sigmoid).to(dtype), mask=inside)
