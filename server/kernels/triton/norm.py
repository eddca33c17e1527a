"""Root-mean-square normalisation, by itself or fused with the residual sum; one program a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs

WIDE_ROW = 2048  # features from which eight warps share a row


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Normalise each row of `x` [tokens, hidden] by its root mean square, then scale by `weight`.

    Computed in fp32 and rounded once before the scale, as the twin does.
    """
    normed = torch.empty_like(x)
    _launch(normed, x, x, weight, eps, adds=False)
    return normed


def add_rms_norm(
    residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """Add `x` to `residual` [tokens, hidden] in place (rounded), then `rms_norm` of the sum."""
    normed = torch.empty_like(residual)
    _launch(normed, residual, x, weight, eps, adds=True)
    return normed


def _launch(
    normed: torch.Tensor,
    residual: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    adds: bool,
) -> None:
    tokens, hidden = residual.shape
    early = starts_early(residual)
    _rms_norm_kernel[(tokens,)](
        normed,
        residual,
        x,
        weight,
        hidden,
        eps,
        adds=adds,
        early=early,
        block=triton.next_power_of_2(hidden),
        num_warps=8 if hidden >= WIDE_ROW else 4,
        launch_pdl=early,
    )


@triton.jit
def _rms_norm_kernel(
    normed,
    residual,
    x,
    weight,
    hidden,
    eps,
    adds: tl.constexpr,
    early: tl.constexpr,
    block: tl.constexpr,
):
    let_next_start(early)
    row = tl.program_id(0).to(tl.int64) * hidden
    feature = tl.arange(0, block)
    inside = feature < hidden
    scale = tl.load(weight + feature, mask=inside, other=0.0)
    wait_for_inputs(early)
    value = tl.load(residual + row + feature, mask=inside, other=0.0)
    if adds:
        added = tl.load(x + row + feature, mask=inside, other=0.0)
        value = (value.to(tl.float32) + added.to(tl.float32)).to(scale.dtype)
        tl.store(residual + row + feature, value, mask=inside)
    wide = value.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(wide * wide, 0) / hidden + eps)
    rounded = (wide * inverse).to(scale.dtype).to(tl.float32)
    tl.store(normed + row + feature, rounded * scale.to(tl.float32), mask=inside)
