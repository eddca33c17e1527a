"""The second half of LoRA: sum the parts of `A(x)`, multiply by B, add to the output."""

from __future__ import annotations

import triton
import triton.language as tl

from server.kernels.triton.early_launch import let_next_start, prefetch, wait_for_inputs


@triton.jit
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
    split_block: tl.constexpr,
    ranks: tl.constexpr,
    parts: tl.constexpr,
    block: tl.constexpr,
    rank_step: tl.constexpr,
    line: tl.constexpr,
    alignment: tl.constexpr,
    stages: tl.constexpr,
    early: tl.constexpr,
):
    """A tile of four rows and `columns` columns, streamed by blocks; row by row, for most tiles of
    a mixed batch hold one row, and padding it to a tensor core's sixteen costs more than it saves.
    """
    number, tile = tl.program_id(0), tl.program_id(1)
    let_next_start(early)
    slot = tl.load(tile_slots + tile)
    row0 = tl.load(tile_row_numbers + tile * 4)
    row1 = tl.load(tile_row_numbers + tile * 4 + 1)
    row2 = tl.load(tile_row_numbers + tile * 4 + 2)
    row3 = tl.load(tile_row_numbers + tile * 4 + 3)
    part, number, first_column, width = _part_of(number, width0, width1, width2, columns)
    entry = table + tl.maximum(slot, 0).to(tl.int64) * table_stride + part * 3
    factor = arena + tl.multiple_of(tl.load(entry + 1), alignment)
    rank = tl.load(entry + 2).to(tl.int32)
    if (slot >= 0) & (rank > 0):
        begin, end = number * columns, tl.minimum(number * columns + columns, width)
        lane = tl.arange(0, rank_step)
        _prefetch_columns(factor, lane, rank, begin, end, width, block, line, early)
        wait_for_inputs(early)
        split = tl.arange(0, split_block)
        sums_at = partial + (split[:, None] * parts + part) * rows * ranks + lane[None, :]
        is_split = split < splits
        dtype = factor.dtype.element_ty
        y_at = y + first_column
        y0, y1 = y_at + row0.to(tl.int64) * y_stride, y_at + row1.to(tl.int64) * y_stride
        y2, y3 = y_at + row2.to(tl.int64) * y_stride, y_at + row3.to(tl.int64) * y_stride
        factor_at = factor + lane[:, None] * width
        shrunk0 = _shrunk(sums_at, row0, ranks, is_split, dtype)
        shrunk1 = _shrunk(sums_at, row1, ranks, is_split, dtype)
        shrunk2 = _shrunk(sums_at, row2, ranks, is_split, dtype)
        shrunk3 = _shrunk(sums_at, row3, ranks, is_split, dtype)
        if rank <= rank_step:
            for start in tl.range(begin, end, block, num_stages=stages):
                column = start + tl.arange(0, block)
                inside = column < end
                weight = _weights(factor_at, lane, rank, column, inside)
                _add(y0, row0, column, inside, tl.sum(shrunk0[:, None] * weight, 0))
                _add(y1, row1, column, inside, tl.sum(shrunk1[:, None] * weight, 0))
                _add(y2, row2, column, inside, tl.sum(shrunk2[:, None] * weight, 0))
                _add(y3, row3, column, inside, tl.sum(shrunk3[:, None] * weight, 0))
        else:
            for start in range(begin, end, block):
                column = start + tl.arange(0, block)
                inside = column < end
                added0 = tl.zeros((block,), tl.float32)
                added1, added2, added3 = added0, added0, added0
                for first in tl.range(0, rank, rank_step, num_stages=stages):
                    next_at = sums_at + first
                    weight = _weights(factor_at + first * width, first + lane, rank, column, inside)
                    added0 += _product(next_at, row0, ranks, is_split, dtype, weight)
                    added1 += _product(next_at, row1, ranks, is_split, dtype, weight)
                    added2 += _product(next_at, row2, ranks, is_split, dtype, weight)
                    added3 += _product(next_at, row3, ranks, is_split, dtype, weight)
                _add(y0, row0, column, inside, added0)
                _add(y1, row1, column, inside, added1)
                _add(y2, row2, column, inside, added2)
                _add(y3, row3, column, inside, added3)
    else:
        wait_for_inputs(early)


@triton.jit
def _shrunk(sums_at, row, ranks, is_split, dtype: tl.constexpr):
    """`A(x)` of one row's next ranks, summed and rounded: [rank_step]; zeros for a spare row."""
    sums = tl.load(sums_at + row * ranks, mask=is_split[:, None] & (row >= 0), other=0.0)
    return tl.sum(sums, 0).to(dtype).to(tl.float32)


@triton.jit
def _weights(factor_at, index, rank, column, inside):
    """The next ranks of B for one block of columns: [rank_step, block] fp32."""
    wanted = (index < rank)[:, None] & inside[None, :]
    return tl.load(factor_at + column[None, :], mask=wanted, other=0.0).to(tl.float32)


@triton.jit
def _add(y_at, row, column, inside, added):
    """Add to one row's columns, rounding once; a spare row has none."""
    wanted = inside & (row >= 0)
    before = tl.load(y_at + column, mask=wanted, other=0.0).to(tl.float32)
    tl.store(y_at + column, before + added, mask=wanted)


@triton.jit
def _product(sums_at, row, ranks, is_split, dtype: tl.constexpr, weight):
    return tl.sum(_shrunk(sums_at, row, ranks, is_split, dtype)[:, None] * weight, 0)


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


@triton.jit
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
        lane = tl.arange(0, rank_step)
        column = number * block + tl.arange(0, block)
        inside = (column < width)[None, :]
        is_row = (row >= 0)[:, None]
        factor_at = arena + start + lane[:, None] * width + column[None, :]
        weight = tl.load(factor_at, mask=(lane < rank)[:, None] & inside, other=0.0)
        wait_for_inputs(early)
        y_at = y + row.to(tl.int64)[:, None] * y_stride + first_column + column[None, :]
        before = tl.load(y_at, mask=is_row & inside, other=0.0)
        sums_at = partial + part * rows * ranks + row[:, None] * ranks + lane[None, :]
        sums = tl.zeros((tile_rows, block), tl.float32)
        for first in range(0, rank, rank_step):
            following = tl.load(
                factor_at + (first + rank_step) * width,
                mask=(first + rank_step + lane < rank)[:, None] & inside,
                other=0.0,
            )
            shrunk = tl.zeros((tile_rows, rank_step), tl.float32)
            for split in tl.static_range(splits):
                split_at = sums_at + first + split * parts * rows * ranks
                shrunk += tl.load(split_at, mask=is_row, other=0.0)
            sums = tl.dot(shrunk.to(weight.dtype), weight, sums, input_precision="ieee")
            weight = following
        tl.store(y_at, before.to(tl.float32) + sums, mask=is_row & inside)
    else:
        wait_for_inputs(early)


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
