"""`B(A(x))` of one row inside the kernel that reads the product it changes."""

from __future__ import annotations

from math import gcd

import torch
import triton
import triton.language as tl

from server.kernels.triton.delta import RANK_STEP, LoraDelta

WIDEST_ALIGNMENT = 16  # elements
MOST_SPLITS = 8  # partial sums of `A(x)`
SPLITS, STEP = tl.constexpr(MOST_SPLITS), tl.constexpr(RANK_STEP)


def delta_arguments(delta: LoraDelta | None, stand_in: torch.Tensor) -> tuple[object, ...]:
    """What a kernel takes for its delta; `stand_in` for what it does not read without one."""
    if delta is None:
        return (stand_in,) * 4 + (0,) * 5
    splits, parts, rows, ranks = delta.partial.shape
    site = delta.site
    assert splits <= MOST_SPLITS
    return (
        delta.partial, site.arena, site.table, delta.row_slots, site.table.stride(0),
        splits, parts, rows, ranks,
    )  # fmt: skip


def delta_alignment(delta: LoraDelta | None) -> int:
    """What every offset into the arena is a multiple of, so that loads can be wide."""
    return 1 if delta is None else gcd(WIDEST_ALIGNMENT, *delta.site.widths)


@triton.jit
def factor_of(arena, table, row_slots, table_stride, row, part, alignment: tl.constexpr):
    """Where the row's own B [rank, width] lies, and its rank, 0 if it has none.

    Nothing that a step writes is read: a kernel may ask before its inputs are there.
    """
    slot = tl.load(row_slots + row)
    entry = table + tl.maximum(slot, 0).to(tl.int64) * table_stride + part * 3
    factor = arena + tl.multiple_of(tl.load(entry + 1), alignment)
    return factor, tl.where(slot >= 0, tl.load(entry + 2).to(tl.int32), 0)


@triton.jit
def factor_ranks(factor, rank, first, width, column, inside):
    """RANK_STEP ranks of B from `first` on, for columns [block]: [RANK_STEP, block]."""
    lane = first + tl.arange(0, STEP)
    at = factor + lane[:, None] * width + column[None, :]
    return tl.load(at, mask=(lane < rank)[:, None] & inside[None, :], other=0.0)


@triton.jit
def delta_sum(
    partial, splits, parts, rows, ranks, row, part, factor, rank, weight, width, column, inside
):
    """`B(A(x))` of a row for columns [block], in fp32; `weight`: B's first ranks, already there."""
    total = _ranks_sum(partial, splits, parts, rows, ranks, row, part, rank, 0, weight)
    for first in range(STEP, rank, STEP):
        weight = factor_ranks(factor, rank, first, width, column, inside)
        total += _ranks_sum(partial, splits, parts, rows, ranks, row, part, rank, first, weight)
    return total


@triton.jit
def _ranks_sum(partial, splits, parts, rows, ranks, row, part, rank, first, weight):
    split, lane = tl.arange(0, SPLITS), first + tl.arange(0, STEP)
    at = partial + ((split[:, None] * parts + part) * rows + row) * ranks + lane[None, :]
    wanted = (split < splits)[:, None] & (lane < rank)[None, :]
    shrunk = tl.sum(tl.load(at, mask=wanted, other=0.0), 0).to(weight.dtype).to(tl.float32)
    return tl.sum(shrunk[:, None] * weight.to(tl.float32), 0)
