"""Root-mean-square normalisation, by itself or fused with the residual sum; one program a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.delta_sum import (
    delta_alignment,
    delta_arguments,
    delta_sum,
    factor_of,
    factor_ranks,
)
from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs
from server.kernels.triton.room import empty_rows

WIDE_ROW = 2048  # features from which eight warps share a row
ADAPTED_FEATURES = 256  # of a warp that holds their ranks too
MOST_WARPS = 16


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, *, room: int = 0) -> torch.Tensor:
    """Normalise each row of `x` [tokens, hidden] by its root mean square, then scale by `weight`.

    Computed in fp32 and rounded once before the scale, as the twin does. room: columns that each
    row of the result has behind it.
    """
    normed = empty_rows(x, x.shape[1], room)
    _launch(normed, x, x, weight, eps, adds=False, delta=None)
    return normed


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
    normed = empty_rows(x, x.shape[1], room)
    _launch(normed, residual, x, weight, eps, adds=True, delta=delta)
    return normed


def _launch(
    normed: torch.Tensor,
    residual: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    adds: bool,
    delta: LoraDelta | None,
) -> None:
    tokens, hidden = residual.shape
    block = triton.next_power_of_2(hidden)
    early = starts_early(residual)
    _rms_norm_kernel[(tokens,)](
        normed,
        residual,
        x,
        weight,
        hidden,
        normed.stride(0),
        eps,
        *delta_arguments(delta, x),
        adds=adds,
        adapted=delta is not None,
        alignment=delta_alignment(delta),
        early=early,
        block=block,
        num_warps=_warps(hidden) if delta is None else _adapted_warps(block),
        launch_pdl=early,
    )


def _warps(hidden: int) -> int:
    return 8 if hidden >= WIDE_ROW else 4


def _adapted_warps(block: int) -> int:
    """As many as sum the ranks of their features without exchanging anything."""
    return max(4, min(MOST_WARPS, block // ADAPTED_FEATURES))


@triton.jit(do_not_specialize=["splits", "parts", "rows", "ranks"])
def _rms_norm_kernel(
    normed,
    residual,
    x,
    weight,
    hidden,
    normed_stride,
    eps,
    partial,
    arena,
    table,
    row_slots,
    table_stride,
    splits,
    parts,
    rows,
    ranks,
    adds: tl.constexpr,
    adapted: tl.constexpr,
    alignment: tl.constexpr,
    early: tl.constexpr,
    block: tl.constexpr,
):
    let_next_start(early)
    number = tl.program_id(0).to(tl.int64)
    row = number * hidden
    feature = tl.arange(0, block)
    inside = feature < hidden
    scale = tl.load(weight + feature, mask=inside, other=0.0)
    if adapted:
        factor, rank = factor_of(arena, table, row_slots, table_stride, number, 0, alignment)
        ranks_of_b = factor_ranks(factor, rank, 0, hidden, feature, inside)
    wait_for_inputs(early)
    value = tl.load(residual + row + feature, mask=inside, other=0.0)
    if adds:
        added = tl.load(x + row + feature, mask=inside, other=0.0)
        if adapted:
            change = delta_sum(
                partial, splits, parts, rows, ranks, number, 0,
                factor, rank, ranks_of_b, hidden, feature, inside,
            )  # fmt: skip
            added = (added.to(tl.float32) + change).to(added.dtype)
        value = (value.to(tl.float32) + added.to(tl.float32)).to(scale.dtype)
        tl.store(residual + row + feature, value, mask=inside)
    wide = value.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(wide * wide, 0) / hidden + eps)
    rounded = (wide * inverse).to(scale.dtype).to(tl.float32)
    tl.store(normed + number * normed_stride + feature, rounded * scale.to(tl.float32), mask=inside)
