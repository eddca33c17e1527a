"""Root-mean-square normalisation, one program a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_WARPS = 8


def normalise(
    x: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`x` [rows, hidden] normalised and scaled, and 1 / rms [rows] in fp32."""
    rows, hidden = x.shape
    normed = torch.empty_like(x)
    inverse = torch.empty(rows, dtype=torch.float32, device=x.device)
    size = triton.next_power_of_2(hidden)
    _forward_kernel[(rows,)](normed, inverse, x, weight, hidden, eps, size=size, num_warps=_WARPS)
    return normed, inverse


def normalise_back(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor
) -> torch.Tensor:
    """The gradient of `x`: (g w − x̂ · mean(g w x̂)) / rms, where x̂ = x / rms."""
    rows, hidden = x.shape
    out = torch.empty_like(x)
    size = triton.next_power_of_2(hidden)
    _backward_kernel[(rows,)](
        out, gradient, x, weight, inverse, hidden, size=size, num_warps=_WARPS
    )
    return out


@triton.jit
def _forward_kernel(normed, inverse, x, weight, hidden, eps, size: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, size)
    inside = column < hidden
    value = tl.load(x + row * hidden + column, mask=inside, other=0.0).to(tl.float32)
    factor = tl.rsqrt(tl.sum(value * value) / hidden + eps)
    tl.store(inverse + row, factor)
    dtype = normed.dtype.element_ty
    unit = (value * factor).to(dtype).to(tl.float32)  # rounded before the scale
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row * hidden + column, (unit * scale).to(dtype), mask=inside)


@triton.jit
def _backward_kernel(out, gradient, x, weight, inverse, hidden, size: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, size)
    inside = column < hidden
    factor = tl.load(inverse + row)
    place = row * hidden + column
    unit = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * factor
    scaled = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
    scaled *= tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    along = tl.sum(scaled * unit) / hidden
    value = (scaled - unit * along) * factor
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)
