"""The second half of LoRA: sum the parts of `A(x)`, multiply by B, add to the output."""

from __future__ import annotations

import triton
import triton.language as tl

from server.kernels.triton.early_launch import let_next_start, prefetch, wait_for_inputs


@triton.jit(do_not_specialize=["rows"])  # or it would be compiled three times
def decode_expand_kernel(
    y,
    partial,
    arena,
    table,
    tile_slots,
    tile_row_numbers,
    rows,
    y_stride,
    table_stride,
    width0,
    width1,
    width2,
    columns,
    splits: tl.constexpr,
    ranks: tl.constexpr,
    parts: tl.constexpr,
    tile_rows: tl.constexpr,
    block: tl.constexpr,
    rank_step: tl.constexpr,
    line: tl.constexpr,
    alignment: tl.constexpr,
    early: tl.constexpr,
):
    """A tile of rows and `columns` columns, streamed by blocks, on tensor cores."""
    number, tile = tl.program_id(0), tl.program_id(1)
    let_next_start(early)
    slot = tl.load(tile_slots + tile)
    row = tl.load(tile_row_numbers + tile * tile_rows + tl.arange(0, tile_rows))
    part, number, first_column, width = _part_of(number, width0, width1, width2, columns)
    entry = table + tl.maximum(slot, 0).to(tl.int64) * table_stride + part * 3
    factor = arena + tl.multiple_of(tl.load(entry + 1), alignment)
    rank = tl.load(entry + 2).to(tl.int32)
    if (slot >= 0) & (rank > 0):
        begin, end = number * columns, tl.minimum(number * columns + columns, width)
        lane = tl.arange(0, rank_step)
        _prefetch_columns(factor, lane, rank, begin, end, width, block, line, early)
        wait_for_inputs(early)
        is_row = (row >= 0)[:, None]
        y_row = y + first_column + row.to(tl.int64)[:, None] * y_stride
        sums_at = partial + part * rows * ranks + row[:, None] * ranks + lane[None, :]
        for start in range(begin, end, block):
            column = start + tl.arange(0, block)
            sums = tl.zeros((tile_rows, block), tl.float32)
            for first in range(0, rank, rank_step):
                weight = _weights(factor + first * width, lane, rank - first, column, end, width)
                shrunk = tl.zeros((tile_rows, rank_step), tl.float32)
                for split in tl.static_range(splits):
                    split_at = sums_at + first + split * parts * rows * ranks
                    shrunk += tl.load(split_at, mask=is_row, other=0.0)
                sums = tl.dot(shrunk.to(weight.dtype), weight, sums, input_precision="ieee")
            wanted = is_row & (column < end)[None, :]
            before = tl.load(y_row + column[None, :], mask=wanted, other=0.0)
            tl.store(y_row + column[None, :], before.to(tl.float32) + sums, mask=wanted)
    else:
        wait_for_inputs(early)


@triton.jit
def _weights(factor, lane, rank, column, end, width):
    """The next ranks of B for one block of columns: [rank_step, block]."""
    wanted = (lane < rank)[:, None] & (column < end)[None, :]
    return tl.load(factor + lane[:, None] * width + column[None, :], mask=wanted, other=0.0)


@triton.jit
def _prefetch_columns(
    factor,
    lane,
    rank,
    begin,
    end,
    width,
    block: tl.constexpr,
    line: tl.constexpr,
    early: tl.constexpr,
):
    """Ask for the first ranks of B early, cache line by cache line."""
    if early:
        lines = tl.arange(0, block // line) * line
        for start in range(begin, end, block):
            column = start + lines
            wanted = (lane < rank)[:, None] & (column < end)[None, :]
            prefetch(factor + lane[:, None] * width + column[None, :], wanted, early)


@triton.jit(do_not_specialize=["rows"])
def prompt_expand_kernel(
    y,
    partial,
    arena,
    table,
    tile_slots,
    tile_row_numbers,
    rows,
    y_stride,
    table_stride,
    width0,
    width1,
    width2,
    splits: tl.constexpr,
    ranks: tl.constexpr,
    parts: tl.constexpr,
    tile_rows: tl.constexpr,
    block: tl.constexpr,
    rank_step: tl.constexpr,
    alignment: tl.constexpr,
    early: tl.constexpr,
):
    """A tile of many rows and one block of columns, on tensor cores."""
    number, tile = tl.program_id(0), tl.program_id(1)
    let_next_start(early)
    slot = tl.load(tile_slots + tile)
    row = tl.load(tile_row_numbers + tile * tile_rows + tl.arange(0, tile_rows))
    part, number, first_column, width = _part_of(number, width0, width1, width2, block)
    entry = table + tl.maximum(slot, 0).to(tl.int64) * table_stride + part * 3
    start = tl.multiple_of(tl.load(entry + 1), alignment)
    rank = tl.load(entry + 2).to(tl.int32)
    if (slot >= 0) & (rank > 0):
        column = number * block + tl.arange(0, block)
        is_row, inside = (row >= 0)[:, None], (column < width)[None, :]
        factor = arena + start
        weight = weights(factor, 0, rank, column, width, inside, rank_step)
        wait_for_inputs(early)
        y_at = y + row.to(tl.int64)[:, None] * y_stride + first_column + column[None, :]
        before = tl.load(y_at, mask=is_row & inside, other=0.0)
        lane = tl.arange(0, rank_step)
        sums_at = partial + part * rows * ranks + row[:, None] * ranks + lane[None, :]
        stride = parts * rows * ranks
        first = shrunk(sums_at, 0, rank, is_row, stride, splits, before.dtype)
        sums = expand_all(
            first, weight, sums_at, factor, rank, column, width, is_row, inside, stride,
            splits, rank_step,
        )  # fmt: skip
        tl.store(y_at, before.to(tl.float32) + sums, mask=is_row & inside)
    else:
        wait_for_inputs(early)


@triton.jit
def expand_all(
    first_shrunk,
    first_weight,
    sums_at,
    factor,
    rank,
    column,
    width,
    is_row,
    inside,
    split_stride,
    splits: tl.constexpr,
    rank_step: tl.constexpr,
):
    """`B(A(x))` [rows, columns] fp32 of a tile; of the first ranks both halves are there."""
    sums = tl.dot(first_shrunk, first_weight, input_precision="ieee")
    for first in range(rank_step, rank, rank_step):
        more = shrunk(sums_at, first, rank, is_row, split_stride, splits, first_weight.dtype)
        weight = weights(factor, first, rank, column, width, inside, rank_step)
        sums = tl.dot(more, weight, sums, input_precision="ieee")
    return sums


@triton.jit
def shrunk(sums_at, first, rank, is_row, split_stride, splits: tl.constexpr, dtype: tl.constexpr):
    """A(x) [rows, rank_step] of the ranks from `first` on, its parts summed in their order."""
    wanted = is_row & (first + tl.arange(0, sums_at.shape[1]) < rank)[None, :]
    sums = tl.zeros(sums_at.shape, tl.float32)
    for split in tl.static_range(splits):
        sums += tl.load(sums_at + first + split * split_stride, mask=wanted, other=0.0)
    return sums.to(dtype)


@triton.jit
def weights(factor, first, rank, column, width, inside, rank_step: tl.constexpr):
    """B [rank_step, columns] of the ranks from `first` on."""
    index = first + tl.arange(0, rank_step)
    wanted = (index < rank)[:, None] & inside
    return tl.load(factor + index[:, None] * width + column[None, :], mask=wanted, other=0.0)


@triton.jit
def _part_of(number, width0, width1, width2, block):
    """The part that the grid's column block `number` lies in.

    Returns the part, the block's number within it, the part's first column and its width.
    """
    blocks0, blocks1 = tl.cdiv(width0, block), tl.cdiv(width1, block)
    is_first, is_third = number < blocks0, number >= blocks0 + blocks1
    part = tl.where(is_first, 0, tl.where(is_third, 2, 1))
    skipped = tl.where(is_first, 0, tl.where(is_third, blocks0 + blocks1, blocks0))
    column = tl.where(is_first, 0, tl.where(is_third, width0 + width1, width0))
    width = tl.where(is_first, width0, tl.where(is_third, width2, width1))
    return part, number - skipped, column, width
