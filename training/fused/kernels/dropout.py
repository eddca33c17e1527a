"""Dropout by a counter: an element's fate is a function of the seed and its place (Philox)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_SIZE = 2048


def dropped(x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """`x` with a share `p` of its elements at 0 and the others divided by 1 − p."""
    out = torch.empty_like(x)
    _launch(out, x, p, seed, adds=False)
    return out


def add_dropped(total: torch.Tensor, x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """`total` plus `dropped(x)`, in place."""
    _launch(total, x, p, seed, adds=True)
    return total


def _launch(out: torch.Tensor, x: torch.Tensor, p: float, seed: int, *, adds: bool) -> None:
    count = x.numel()
    grid = (triton.cdiv(count, _SIZE),)
    _dropout_kernel[grid](out, x, seed, p, 1 / (1 - p), count, adds=adds, size=_SIZE)


@triton.jit
def _dropout_kernel(
    out,
    x,
    seed,
    p,
    scale,
    count,
    adds: tl.constexpr,
    size: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * size + tl.arange(0, size)
    inside = place < count
    kept = tl.rand(seed, place) >= p
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    value = tl.where(kept, value * scale, 0.0)
    if adds:
        value += tl.load(out + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)
