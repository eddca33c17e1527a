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

from server.kernels.triton.early_launch import starts_early
from server.kernels.triton.lora_expand import expand_kernel
from server.kernels.triton.lora_shrink import decode_shrink_kernel, prompt_shrink_kernel
from server.kernels.triton.site import MAX_PARTS, LoraSite
from server.kernels.triton.tiles import DECODE_ROWS, LoraTiles

RANK_STEP = 16  # ranks multiplied at once, the least that a tensor core takes
WIDEST_ALIGNMENT = 16  # elements
MOST_SPLITS = 32  # partial sums that expand has to add
FILLING_PROGRAMS = 264  # two for each multiprocessor of an H200


@dataclass(frozen=True)
class LoraTuning:
    """How the work is cut; the defaults were measured on one H200 (docs/benchmarks.md)."""

    shrink_span: int = 256  # in_features of one program
    shrink_warps: int = 2
    expand_block: int = 256  # output columns of one program
    expand_warps: int = 4


DECODE_TUNING = LoraTuning()
PROMPT_TUNING = LoraTuning(shrink_span=1024, shrink_warps=4, expand_block=128)
PROMPT_BLOCK = 64  # in_features that a prompt's program multiplies at once
PROMPT_STAGES = 4


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
    decoding = tiles.tile_rows == DECODE_ROWS
    kernel = decode_shrink_kernel if decoding else prompt_shrink_kernel
    block = {} if decoding else {"block": PROMPT_BLOCK}
    early = starts_early(x)
    kernel[(splits, site.parts, len(tiles.slots))](
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
        rank_step=RANK_STEP,
        alignment=_alignment(in_features, *site.widths),
        early=early,
        num_warps=tuning.shrink_warps,
        num_stages=1 if decoding else PROMPT_STAGES,
        launch_pdl=early,
        **block,
    )
    return partial


def _span(in_features: int, site: LoraSite, tiles: LoraTiles, tuning: LoraTuning) -> int:
    """in_features of one program: a constant for decoding, for prompts what fills the device."""
    if tiles.tile_rows == DECODE_ROWS:
        span = tuning.shrink_span
        while triton.cdiv(in_features, span) > MOST_SPLITS:
            span *= 2
        return span
    wanted = max(1, FILLING_PROGRAMS // (len(tiles.slots) * site.parts))
    blocks: int = triton.cdiv(triton.cdiv(in_features, wanted), PROMPT_BLOCK)
    return max(tuning.shrink_span, blocks * PROMPT_BLOCK)


def _expand(
    y: torch.Tensor, partial: torch.Tensor, site: LoraSite, tiles: LoraTiles, tuning: LoraTuning
) -> None:
    blocks = [triton.cdiv(width, tuning.expand_block) for width in site.widths]
    widths = [*site.widths, *[0] * (MAX_PARTS - site.parts)]
    splits, _, rows, ranks = partial.shape
    early = starts_early(y)
    expand_kernel[(sum(blocks), len(tiles.slots))](
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
        early=early,
        num_warps=tuning.expand_warps,
        num_stages=1,
        launch_pdl=early,
    )


def _alignment(*lengths: int) -> int:
    """What every offset into the arena is a multiple of, so that loads can be wide."""
    return gcd(WIDEST_ALIGNMENT, *lengths)
