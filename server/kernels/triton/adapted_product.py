"""The product of rows that all have one adapter, with LoRA's second half as a part of it.

`x Wᵀ + A(x) B = [x | A(x)] [W | Bᵀ]ᵀ`: what adapters change costs a dense product as much as its
depth grows, where adding it to the result reads and writes all of that once more.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.linear import Unpacking
from server.kernels.triton.early_launch import starts_early, wait_for_inputs
from server.kernels.triton.lora import SHARED_TUNING, shrink
from server.kernels.triton.room import with_room
from server.kernels.triton.site import LoraSite
from server.kernels.triton.tiles import LoraTiles

WEIGHT_ROWS = 64  # of a program that writes B
INPUT_ROWS = 16  # of a program that writes A(x)
NUM_WARPS = 4


def adapted_product(
    x: torch.Tensor, linear: Unpacking, site: LoraSite, tiles: LoraTiles
) -> torch.Tensor:
    """`x` [rows, in_features] times the weight, plus `B(A(x))` of the adapter that all rows have.

    x: of `room.empty_rows`, with columns behind each row that are written here; the ranks of a
    site's parts have to fit into them together. tiles: of that adapter alone, or all of slot -1;
    rows in none come out as anything. A(x) is rounded to the compute dtype, the result once.
    """
    partial = shrink(x, site, tiles, SHARED_TUNING)
    wide = with_room(x)
    out = x.new_empty(len(x), linear.out_features)
    for start, dense in linear.pieces(x.dtype, room=wide.shape[1] - x.shape[1]):
        _widen(dense, start, x, partial, site, tiles)
        torch.mm(wide, dense.T, out=out[:, start : start + len(dense)])
    return out


def _widen(
    dense: torch.Tensor,
    start: int,
    x: torch.Tensor,
    partial: torch.Tensor,
    site: LoraSite,
    tiles: LoraTiles,
) -> None:
    """Write B behind the weight's rows from `start` on, and A(x) behind x with the first piece."""
    splits, parts, rows, ranks = partial.shape
    weight_programs = triton.cdiv(len(dense), WEIGHT_ROWS)
    input_programs = 0 if start else triton.cdiv(rows, INPUT_ROWS)
    room = x.stride(0) - x.shape[1]
    early = starts_early(x)
    _widen_kernel[(weight_programs + input_programs,)](
        dense,
        x,
        partial,
        site.arena,
        site.table,
        tiles.slots,
        start,
        len(dense),
        rows,
        x.shape[1],
        x.stride(0),
        site.table.stride(0),
        weight_programs,
        *site.widths,
        *[0] * (3 - parts),
        splits=splits,
        ranks=ranks,
        parts=parts,
        room=room,
        places=triton.next_power_of_2(room),
        weight_rows=WEIGHT_ROWS,
        input_rows=INPUT_ROWS,
        early=early,
        num_warps=NUM_WARPS,
        launch_pdl=early,
    )


@triton.jit(do_not_specialize=["start", "weight_count", "rows", "weight_programs"])
def _widen_kernel(
    dense,
    x,
    partial,
    arena,
    table,
    tile_slots,
    start,
    weight_count,
    rows,
    in_features,
    stride,
    table_stride,
    weight_programs,
    width0,
    width1,
    width2,
    splits: tl.constexpr,
    ranks: tl.constexpr,
    parts: tl.constexpr,
    room: tl.constexpr,
    places: tl.constexpr,
    weight_rows: tl.constexpr,
    input_rows: tl.constexpr,
    early: tl.constexpr,
):
    """Some rows of the weight, or some of x.

    Runs while the kernel before it does, which unpacks the weight's other columns: that one has
    waited for A(x), and for whoever read the columns written here, before it let this one start. It
    has ended when this one has, because one program waits for it.
    """
    number = tl.program_id(0)
    slot = tl.load(tile_slots)
    entry = table + tl.maximum(slot, 0).to(tl.int64) * table_stride
    rank0, rank1 = _rank(entry, slot, 0, parts), _rank(entry, slot, 1, parts)
    rank2 = _rank(entry, slot, 2, parts)
    end0, end1, total = rank0, rank0 + rank1, rank0 + rank1 + rank2
    place = tl.arange(0, places)
    is_room = place < room
    if number < weight_programs:
        row = number * weight_rows + tl.arange(0, weight_rows)
        output = start + row
        is_first, is_third = output < width0, output >= width0 + width1
        column = output - tl.where(is_first, 0, tl.where(is_third, width0 + width1, width0))
        width = tl.where(is_first, width0, tl.where(is_third, width2, width1))
        rank = tl.where(is_first, rank0, tl.where(is_third, rank2, rank1))
        before = tl.where(is_first, 0, tl.where(is_third, end1, end0))
        first, second = _factor(entry, 0, parts), _factor(entry, 1, parts)
        third = _factor(entry, 2, parts)
        factor = arena + tl.where(is_first, first, tl.where(is_third, third, second)) + column
        to = dense + row.to(tl.int64) * stride + in_features
        _write_expand(to, factor, width, rank, before, row < weight_count, place, is_room)
    else:
        token = (number - weight_programs) * input_rows + tl.arange(0, input_rows)
        part = (place >= end0).to(tl.int32) + (place >= end1).to(tl.int32)
        index = place - tl.where(part == 0, 0, tl.where(part == 1, end0, end1))
        sums_at, split_stride = partial + part * rows * ranks + index, parts * rows * ranks
        behind = x + token.to(tl.int64) * stride + in_features
        _write_shrunk(
            behind, sums_at, token * ranks, token < rows, place, place < total, is_room,
            split_stride, splits,
        )  # fmt: skip
    if number == 0:
        wait_for_inputs(early)


@triton.jit
def _write_expand(to, factor, width, rank, before, is_row, place, is_room):
    """B of the weight's rows at `to`: of each row the ranks of its own part, zeros beside them."""
    index = place[:, None] - before[None, :]
    is_there = (index >= 0) & (index < rank[None, :]) & is_row[None, :]
    weight = tl.load(factor[None, :] + index * width[None, :], mask=is_there, other=0.0)
    tl.store(to[None, :] + place[:, None], weight, mask=is_room[:, None] & is_row[None, :])


@triton.jit
def _write_shrunk(
    to, sums_at, row_offset, is_row, place, is_rank, is_room, split_stride, splits: tl.constexpr
):  # fmt: skip
    """A(x) of the rows at `to`, its parts summed in their order; zeros beside the ranks."""
    at = sums_at[None, :] + row_offset[:, None]
    wanted = is_row[:, None] & is_rank[None, :]
    sums = tl.zeros(at.shape, tl.float32)
    for split in tl.static_range(splits):
        # Past L1, which nothing has told that they are new.
        sums += tl.load(at + split * split_stride, mask=wanted, other=0.0, cache_modifier=".cg")
    tl.store(to[:, None] + place[None, :], sums, mask=is_row[:, None] & is_room[None, :])


@triton.jit
def _rank(entry, slot, part: tl.constexpr, parts: tl.constexpr):
    """The rank of a part, 0 for the bare base and where there is no such part."""
    rank = 0
    if part < parts:
        rank = tl.where(slot >= 0, tl.load(entry + part * 3 + 2), 0).to(tl.int32)
    return rank


@triton.jit
def _factor(entry, part: tl.constexpr, parts: tl.constexpr):
    """Where B of a part begins in the arena."""
    at = entry + 1
    if part < parts:
        at += part * 3
    return tl.load(at)
