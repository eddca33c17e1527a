"""Many LoRA adapters in one batch: shrink and expand, each one launch for all parts of a site.

A program takes one tile of rows that share an adapter, so an adapter's factors are read once for
up to `tile_rows` rows, and only as many of their rows as its own rank (rounded up to 16 in the
arithmetic, not in what is read). Shrink divides in_features among programs; expand adds the
partial sums in a fixed order. With tiles of DECODE_ROWS the division depends on the site alone,
so a row's bits depend on nothing else in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import torch
import triton
import triton.language as tl

from server.kernels.triton.site import MAX_PARTS, LoraSite
from server.kernels.triton.tiles import DECODE_ROWS, LoraTiles

RANK_STEP = 16  # ranks multiplied at once, the least that a tensor core takes
WIDEST_ALIGNMENT = 16  # elements
FILLING_PROGRAMS = 264  # two for each multiprocessor of an H200


@dataclass(frozen=True)
class LoraTuning:
    """How the work is cut; the defaults were measured on one H200 (docs/benchmarks.md)."""

    shrink_span: int = 512  # in_features of one program
    shrink_block: int = 128  # of them, how many are in flight as one stage
    shrink_warps: int = 2
    shrink_stages: int = 4
    expand_block: int = 256  # output columns of one program
    expand_warps: int = 4


DECODE_TUNING = LoraTuning()
PROMPT_TUNING = LoraTuning(
    shrink_span=1024, shrink_block=64, shrink_warps=4, shrink_stages=4, expand_block=128
)


def add_lora(
    y: torch.Tensor,
    x: torch.Tensor,
    site: LoraSite,
    tiles: LoraTiles,
    *,
    tuning: LoraTuning | None = None,
) -> None:
    """`y` [rows, Σ widths] += each row's own `B(A(x))`, in place; `x`: [rows, in_features].

    A(x) is rounded to the compute dtype, the sum with `y` once.
    """
    if not len(tiles.slots):
        return
    chosen = tuning or (DECODE_TUNING if tiles.tile_rows == DECODE_ROWS else PROMPT_TUNING)
    partial = _shrink(x, site, tiles, chosen)
    _expand(y, partial, site, tiles, chosen)


def _shrink(x: torch.Tensor, site: LoraSite, tiles: LoraTiles, tuning: LoraTuning) -> torch.Tensor:
    """Partial sums of A(x): [splits, parts, rows, max_rank] fp32, only tiles' rows written."""
    rows, in_features = x.shape
    span = _span(in_features, site, tiles, tuning)
    splits = triton.cdiv(in_features, span)
    ranks = RANK_STEP * triton.cdiv(site.max_rank, RANK_STEP)
    partial = torch.empty(splits, site.parts, rows, ranks, dtype=torch.float32, device=x.device)
    _shrink_kernel[(splits, site.parts, len(tiles.slots))](
        partial,
        x,
        site.arena,
        site.table,
        tiles.slots,
        tiles.rows,
        rows,
        in_features,
        x.stride(0),
        site.table.stride(0),
        span=span,
        ranks=ranks,
        parts=site.parts,
        tile_rows=tiles.tile_rows,
        block=tuning.shrink_block,
        rank_step=RANK_STEP,
        alignment=_alignment(in_features, *site.widths),
        num_warps=tuning.shrink_warps,
        num_stages=tuning.shrink_stages,
    )
    return partial


def _span(in_features: int, site: LoraSite, tiles: LoraTiles, tuning: LoraTuning) -> int:
    """in_features of one program: a constant for decoding, for prompts what fills the device."""
    if tiles.tile_rows == DECODE_ROWS:
        return tuning.shrink_span
    wanted = max(1, FILLING_PROGRAMS // (len(tiles.slots) * site.parts))
    blocks: int = triton.cdiv(triton.cdiv(in_features, wanted), tuning.shrink_block)
    return max(tuning.shrink_span, blocks * tuning.shrink_block)


def _expand(
    y: torch.Tensor, partial: torch.Tensor, site: LoraSite, tiles: LoraTiles, tuning: LoraTuning
) -> None:
    blocks = [triton.cdiv(width, tuning.expand_block) for width in site.widths]
    widths = [*site.widths, *[0] * (MAX_PARTS - site.parts)]
    splits, _, rows, ranks = partial.shape
    _expand_kernel[(sum(blocks), len(tiles.slots))](
        y,
        partial,
        site.arena,
        site.table,
        tiles.slots,
        tiles.rows,
        rows,
        y.stride(0),
        site.table.stride(0),
        *widths,
        splits=splits,
        ranks=ranks,
        parts=site.parts,
        tile_rows=tiles.tile_rows,
        block=tuning.expand_block,
        rank_step=RANK_STEP,
        alignment=_alignment(*site.widths),
        num_warps=tuning.expand_warps,
    )


def _alignment(*lengths: int) -> int:
    """What every offset into the arena is a multiple of, so that loads can be wide."""
    return gcd(WIDEST_ALIGNMENT, *lengths)


@triton.jit
def _shrink_kernel(
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
):
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


@triton.jit
def _expand_kernel(
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
):
    number, tile = tl.program_id(0), tl.program_id(1)
    slot = tl.load(tile_slots + tile)
    row = tl.load(tile_row_numbers + tile * tile_rows + tl.arange(0, tile_rows))
    part, number, first_column, width = _part_of(number, width0, width1, width2, block)
    entry = table + tl.maximum(slot, 0).to(tl.int64) * table_stride + part * 3
    rank = tl.load(entry + 2).to(tl.int32)
    if (slot >= 0) & (rank > 0):
        factor = arena + tl.multiple_of(tl.load(entry + 1), alignment)
        column = number * block + tl.arange(0, block)
        inside = (row >= 0)[:, None] & (column < width)[None, :]
        y_at = y + row.to(tl.int64)[:, None] * y_stride + first_column + column[None, :]
        before = tl.load(y_at, mask=inside, other=0.0)
        lane = tl.arange(0, rank_step)
        sums = tl.zeros((tile_rows, block), tl.float32)
        for first in range(0, rank, rank_step):
            index = first + lane
            weight = tl.load(
                factor + index[:, None] * width + column[None, :],
                mask=(index < rank)[:, None] & (column < width)[None, :],
                other=0.0,
            )
            shrunk = tl.zeros((tile_rows, rank_step), tl.float32)
            for split in tl.static_range(splits):
                sums_at = partial + (split * parts + part).to(tl.int64) * rows * ranks
                shrunk += tl.load(
                    sums_at + row[:, None] * ranks + index[None, :],
                    mask=(row >= 0)[:, None],
                    other=0.0,
                )
            sums = tl.dot(shrunk.to(weight.dtype), weight, sums, input_precision="ieee")
        tl.store(y_at, before.to(tl.float32) + sums, mask=inside)


@triton.jit
def _part_of(number, width0, width1, width2, block: tl.constexpr):
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
