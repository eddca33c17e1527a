"""Rotary positions, one program a token."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """One turn, each product and their sum rounded."""
    tokens, heads, size = x.shape
    out = torch.empty_like(x)
    half = triton.next_power_of_2(size // 2)
    _turn_kernel[(tokens,)](
        out, x, cos, sin, heads, size, num_heads=triton.next_power_of_2(heads), half=half
    )
    return out


@triton.jit
def _turn_kernel(out, x, cos, sin, heads, size, num_heads: tl.constexpr, half: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, num_heads)[:, None]
    column = tl.arange(0, half)[None, :]
    middle = size // 2
    inside = (head < heads) & (column < middle)
    place = token * heads * size + head * size + column
    dtype = out.dtype.element_ty
    left = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    right = tl.load(x + place + middle, mask=inside, other=0.0).to(tl.float32)
    angle = token * size + column
    across = tl.load(cos + angle, mask=column < middle, other=0.0).to(tl.float32)
    along = tl.load(sin + angle, mask=column < middle, other=0.0).to(tl.float32)
    first = _rounded(left * across, dtype) - _rounded(right * along, dtype)
    second = _rounded(right * across, dtype) + _rounded(left * along, dtype)
    tl.store(out + place, first.to(dtype), mask=inside)
    tl.store(out + place + middle, second.to(dtype), mask=inside)


@triton.jit
def _rounded(value, dtype: tl.constexpr):
    return value.to(dtype).to(tl.float32)
