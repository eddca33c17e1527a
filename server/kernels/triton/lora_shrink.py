"""The first half of LoRA, `A(x)`: partial sums over parts of in_features."""

from __future__ import annotations

import triton
import triton.language as tl

from server.kernels.triton.early_launch import let_next_start, wait_for_inputs


@triton.jit
def decode_shrink_kernel(
    partial,
    x,
    arena,
    table,
    tile_slots,
    tile_row_numbers,
    rows,
    in_features,
    x_stride,
    table_stride,
    span: tl.constexpr,
    ranks: tl.constexpr,
    parts: tl.constexpr,
    tile_rows: tl.constexpr,
    rank_step: tl.constexpr,
    alignment: tl.constexpr,
    early: tl.constexpr,
):
    """All weights of a program in flight at once, before its rows' inputs are there."""
    split, part, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    let_next_start(early)
    slot = tl.load(tile_slots + tile)
    row = tl.load(tile_row_numbers + tile * tile_rows + tl.arange(0, tile_rows))
    if slot >= 0:
        entry = table + slot.to(tl.int64) * table_stride + part * 3
        start = tl.multiple_of(tl.load(entry), alignment)
        rank = tl.load(entry + 2).to(tl.int32)
        lane = tl.arange(0, rank_step)
        feature = split * span + tl.arange(0, span)
        inside = (feature < in_features)[None, :]
        factor_at = arena + start + lane[:, None] * in_features + feature[None, :]
        weight = tl.load(factor_at, mask=(lane < rank)[:, None] & inside, other=0.0)
        wait_for_inputs(early)
        is_row = (row >= 0)[:, None]
        x_at = x + row.to(tl.int64)[:, None] * x_stride + feature[None, :]
        value = tl.load(x_at, mask=is_row & inside, other=0.0)
        sums_at = partial + (split * parts + part).to(tl.int64) * rows * ranks
        sums_at = sums_at + row[:, None] * ranks + lane[None, :]
        for first in range(0, rank, rank_step):
            following = tl.load(
                factor_at + (first + rank_step) * in_features,
                mask=(first + rank_step + lane < rank)[:, None] & inside,
                other=0.0,
            )
            sums = tl.dot(value, tl.trans(weight), input_precision="ieee")
            tl.store(sums_at + first, sums, mask=is_row)
            weight = following
    else:
        wait_for_inputs(early)


@triton.jit
def prompt_shrink_kernel(
    partial,
    x,
    arena,
    table,
    tile_slots,
    tile_row_numbers,
    rows,
    in_features,
    x_stride,
    table_stride,
    span: tl.constexpr,
    ranks: tl.constexpr,
    parts: tl.constexpr,
    tile_rows: tl.constexpr,
    block: tl.constexpr,
    rank_step: tl.constexpr,
    alignment: tl.constexpr,
    early: tl.constexpr,
):
    let_next_start(early)
    wait_for_inputs(early)
    split, part, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    slot = tl.load(tile_slots + tile)
    row = tl.load(tile_row_numbers + tile * tile_rows + tl.arange(0, tile_rows))
    if slot >= 0:
        entry = table + slot.to(tl.int64) * table_stride + part * 3
        factor = arena + tl.multiple_of(tl.load(entry), alignment)
        rank = tl.load(entry + 2).to(tl.int32)
        end = tl.minimum(split * span + span, in_features)
        x_row = x + row.to(tl.int64)[:, None] * x_stride
        lane = tl.arange(0, rank_step)
        sums_at = partial + (split * parts + part).to(tl.int64) * rows * ranks
        for first in range(0, rank, rank_step):
            index = first + lane
            sums = tl.zeros((tile_rows, rank_step), tl.float32)
            for start in range(split * span, end, block):
                feature = start + tl.arange(0, block)
                inside = feature < in_features
                value = tl.load(
                    x_row + feature[None, :], mask=(row >= 0)[:, None] & inside[None, :], other=0.0
                )
                weight = tl.load(
                    factor + index[:, None] * in_features + feature[None, :],
                    mask=(index < rank)[:, None] & inside[None, :],
                    other=0.0,
                )
                sums = tl.dot(value, tl.trans(weight), sums, input_precision="ieee")
            tl.store(
                sums_at + row[:, None] * ranks + index[None, :], sums, mask=(row >= 0)[:, None]
            )
