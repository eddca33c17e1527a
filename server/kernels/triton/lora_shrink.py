"""The first half of LoRA, `A(x)`: partial sums over parts of in_features."""

from __future__ import annotations

import triton
import triton.language as tl

from server.kernels.triton.early_launch import let_next_start, prefetch, wait_for_inputs


@triton.jit(do_not_specialize=["rows"])  # or it would be compiled three times
def shrink_kernel(
    partial,
    x,
    arena,
    table,
    tile_slots,
    tile_row_numbers,
    rows,
    in_features,
    span,
    x_stride,
    table_stride,
    ranks: tl.constexpr,
    parts: tl.constexpr,
    tile_rows: tl.constexpr,
    block: tl.constexpr,
    rank_step: tl.constexpr,
    line: tl.constexpr,
    alignment: tl.constexpr,
    beside: tl.constexpr,
    early: tl.constexpr,
):
    """One tile of rows, one part and `span` in_features, which a multiple of `block` covers.

    beside: run while the kernel before this one does. That one must read `x` itself, and have
    waited for it before it let this one start. It has ended when this one has, because one
    program waits for it.
    """
    split, part, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    let_next_start(early)
    waits_first: tl.constexpr = early and not beside
    slot = tl.load(tile_slots + tile)
    row = tl.load(tile_row_numbers + tile * tile_rows + tl.arange(0, tile_rows))
    if slot >= 0:
        entry = table + slot.to(tl.int64) * table_stride + part * 3
        factor = arena + tl.multiple_of(tl.load(entry), alignment)
        rank = tl.load(entry + 2).to(tl.int32)
        begin = split * span
        end = tl.minimum(begin + span, in_features)
        lane = tl.arange(0, rank_step)
        _prefetch_rows(factor, lane, rank, begin, end, in_features, block, line, early)
        wait_for_inputs(waits_first)
        x_row = x + row.to(tl.int64)[:, None] * x_stride
        is_row = (row >= 0)[:, None]
        sums_at = partial + (split * parts + part).to(tl.int64) * rows * ranks
        for first in range(0, rank, rank_step):
            index = first + lane
            sums = tl.zeros((tile_rows, rank_step), tl.float32)
            for start in range(begin, end, block):
                feature = start + tl.arange(0, block)
                inside = (feature < end)[None, :]
                # Past L1, which nothing has told that `x` is new if this kernel did not wait.
                value = tl.load(
                    x_row + feature[None, :],
                    mask=is_row & inside,
                    other=0.0,
                    cache_modifier=".cg" if beside else "",
                )
                weight = tl.load(
                    factor + index[:, None] * in_features + feature[None, :],
                    mask=(index < rank)[:, None] & inside,
                    other=0.0,
                )
                sums = tl.dot(value, tl.trans(weight), sums, input_precision="ieee")
            tl.store(sums_at + row[:, None] * ranks + index[None, :], sums, mask=is_row)
    else:
        wait_for_inputs(waits_first)
    if beside & (split + part + tile == 0):
        wait_for_inputs(early)


@triton.jit
def _prefetch_rows(
    factor,
    lane,
    rank,
    begin,
    end,
    in_features,
    block: tl.constexpr,
    line: tl.constexpr,
    early: tl.constexpr,
):
    """Ask for the first ranks of A early, cache line by cache line."""
    if early:
        lines = tl.arange(0, block // line) * line
        for start in range(begin, end, block):
            feature = start + lines
            wanted = (lane < rank)[:, None] & (feature < end)[None, :]
            prefetch(factor + lane[:, None] * in_features + feature[None, :], wanted, early)
