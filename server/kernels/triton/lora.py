"""Many LoRA adapters in one batch: shrink and expand, each one launch for all parts of a site.

In a decode step shrink runs beside the product it belongs to (`shrink_beside`), and the kernel that
reads the product expands: adapters add one launch a site, and next to nothing to the chain.

A program takes one tile of rows that share an adapter, and reads only as many rows of its factors
as its own rank. Shrink divides in_features among programs; expand adds the partial sums in a fixed
order. A row's result does not depend on the other rows' values. Its bits may depend on the bucket
and on how many rows share its adapter, unless `tuning` is INVARIANT_TUNING.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd

import torch
import triton

from server.kernels.triton.delta import RANK_STEP, LoraDelta
from server.kernels.triton.delta_sum import MOST_SPLITS as DELTA_SPLITS
from server.kernels.triton.early_launch import starts_early
from server.kernels.triton.lora_expand import decode_expand_kernel, prompt_expand_kernel
from server.kernels.triton.lora_shrink import shrink_kernel
from server.kernels.triton.site import MAX_PARTS, LoraSite
from server.kernels.triton.tiles import DECODE_ROWS, LoraTiles

WIDEST_ALIGNMENT = 16  # elements
CACHE_LINE = 128  # bytes
MOST_SPLITS = 32  # partial sums that expand has to add


@dataclass(frozen=True)
class LoraTuning:
    """How the work is cut; the defaults were measured on one H200 (docs/benchmarks.md).

    programs: how many fill the device, each long enough to have its loads in flight. splits: into
    how many parts in_features are divided; None chooses by the bucket so that programs fill the
    device. With fixed splits a row's bits are the same in every bucket (batch-invariant).
    partial_reads: how much of x's width may be read in partial sums, where every block of outputs
    reads all of them: so wide outputs get few; None where they are read once.
    """

    programs: int = 528
    splits: int | None = None
    partial_reads: int | None = None
    shrink_block: int = 256  # in_features in flight as one stage
    shrink_warps: int = 2
    shrink_stages: int = 4
    expand_block: int = 256  # output columns at once
    expand_warps: int = 2


DECODE_TUNING = LoraTuning()
INVARIANT_TUNING = LoraTuning(splits=4)
# Little shared memory, so that its programs find room beside a product's.
BESIDE_TUNING = LoraTuning(splits=DELTA_SPLITS, shrink_stages=2)
PROMPT_TUNING = LoraTuning(
    programs=396,
    partial_reads=16,
    shrink_block=128,
    shrink_warps=4,
    shrink_stages=3,
    expand_block=128,
    expand_warps=4,
)
SHARED_TUNING = replace(PROMPT_TUNING, partial_reads=None)


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
    partial = shrink(x, site, tiles, chosen)
    if tiles.tile_rows == DECODE_ROWS:
        _expand_decoding(y, partial, site, tiles, chosen)
    else:
        _expand_prompts(y, partial, site, tiles, chosen)


def add_lora_invariant(y: torch.Tensor, x: torch.Tensor, site: LoraSite, tiles: LoraTiles) -> None:
    """`add_lora` in one order of sums for every bucket and any company; tiles of DECODE_ROWS."""
    add_lora(y, x, site, tiles, tuning=INVARIANT_TUNING)


def shrink_beside(
    x: torch.Tensor,
    site: LoraSite,
    tiles: LoraTiles,
    row_slots: torch.Tensor,
    *,
    tuning: LoraTuning = BESIDE_TUNING,
) -> LoraDelta:
    """`A(x)` of each row's own adapter, for the next kernel to expand; `x`: [rows, in_features].

    To be launched right behind the product of the same `x`, and runs beside it. tiles, row_slots
    [rows] int32: the same slots twice, by tile and by row.
    """
    return LoraDelta(shrink(x, site, tiles, tuning, beside=True), row_slots, site)


def shrink(
    x: torch.Tensor, site: LoraSite, tiles: LoraTiles, tuning: LoraTuning, *, beside: bool = False
) -> torch.Tensor:
    """Partial sums of A(x): [splits, parts, rows, max_rank] fp32, only tiles' rows written."""
    rows, in_features = x.shape
    wanted = tuning.splits or tuning.programs // (len(tiles.slots) * site.parts)
    if tiles.tile_rows != DECODE_ROWS:
        if tuning.partial_reads is not None:
            wanted = min(wanted, max(1, tuning.partial_reads * in_features // sum(site.widths)))
        wanted = 1 << wanted.bit_length() >> 1  # few numbers: expand is compiled for each
    span = _share(in_features, min(wanted, MOST_SPLITS), tuning.shrink_block)
    splits = triton.cdiv(in_features, span)
    ranks = RANK_STEP * triton.cdiv(site.max_rank, RANK_STEP)
    partial = torch.empty(splits, site.parts, rows, ranks, dtype=torch.float32, device=x.device)
    early = starts_early(x)
    shrink_kernel[(splits, site.parts, len(tiles.slots))](
        partial,
        x,
        site.arena,
        site.table,
        tiles.slots,
        tiles.rows,
        rows,
        in_features,
        span,
        x.stride(0),
        site.table.stride(0),
        ranks=ranks,
        parts=site.parts,
        tile_rows=tiles.tile_rows,
        block=tuning.shrink_block,
        rank_step=RANK_STEP,
        line=CACHE_LINE // x.itemsize,
        alignment=alignment_of(in_features, *site.widths),
        beside=beside,
        early=early,
        num_warps=tuning.shrink_warps,
        num_stages=tuning.shrink_stages,
        launch_pdl=early,
    )
    return partial


def _expand_decoding(
    y: torch.Tensor, partial: torch.Tensor, site: LoraSite, tiles: LoraTiles, tuning: LoraTuning
) -> None:
    columns = _share(sum(site.widths), tuning.programs // len(tiles.slots), tuning.expand_block)
    splits, _, rows, ranks = partial.shape
    early = starts_early(y)
    decode_expand_kernel[(_blocks(site, columns), len(tiles.slots))](
        y,
        partial,
        site.arena,
        site.table,
        tiles.slots,
        tiles.rows,
        rows,
        y.stride(0),
        site.table.stride(0),
        *_three(site.widths),
        columns,
        splits=splits,
        ranks=ranks,
        parts=site.parts,
        tile_rows=tiles.tile_rows,
        block=tuning.expand_block,
        rank_step=RANK_STEP,
        line=CACHE_LINE // y.itemsize,
        alignment=alignment_of(*site.widths),
        early=early,
        num_warps=tuning.expand_warps,
        launch_pdl=early,
    )


def _expand_prompts(
    y: torch.Tensor, partial: torch.Tensor, site: LoraSite, tiles: LoraTiles, tuning: LoraTuning
) -> None:
    splits, _, rows, ranks = partial.shape
    early = starts_early(y)
    prompt_expand_kernel[(_blocks(site, tuning.expand_block), len(tiles.slots))](
        y,
        partial,
        site.arena,
        site.table,
        tiles.slots,
        tiles.rows,
        rows,
        y.stride(0),
        site.table.stride(0),
        *_three(site.widths),
        splits=splits,
        ranks=ranks,
        parts=site.parts,
        tile_rows=tiles.tile_rows,
        block=tuning.expand_block,
        rank_step=RANK_STEP,
        alignment=alignment_of(*site.widths),
        early=early,
        num_warps=tuning.expand_warps,
        num_stages=1,
        launch_pdl=early,
    )


def _share(length: int, pieces: int, block: int) -> int:
    """How much of `length` each of about `pieces` programs takes, in whole blocks."""
    blocks: int = triton.cdiv(triton.cdiv(length, max(1, pieces)), block)
    return blocks * block


def _blocks(site: LoraSite, columns: int) -> int:
    """Programs of `columns` columns that cover every part."""
    return sum(triton.cdiv(width, columns) for width in site.widths)


def _three(widths: tuple[int, ...]) -> list[int]:
    return [*widths, *[0] * (MAX_PARTS - len(widths))]


def alignment_of(*lengths: int) -> int:
    """What every offset into the arena is a multiple of, so that loads can be wide."""
    return gcd(WIDEST_ALIGNMENT, *lengths)
