"""The gated activation of prompts behind what adapters add to it, in one pass over both.

By itself LoRA's second half reads and writes all of gate and up once more: at 1,024 rows of
Mistral-7B as much time as the activation takes three times.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.triton.delta import RANK_STEP
from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs
from server.kernels.triton.lora import PROMPT_TUNING, alignment_of, shrink
from server.kernels.triton.site import LoraSite
from server.kernels.triton.tiles import LoraTiles

BLOCK = 128  # features of one program
NUM_WARPS = 8


def adapted_silu_mul(
    gate_up: torch.Tensor, x: torch.Tensor, site: LoraSite, tiles: LoraTiles
) -> torch.Tensor:
    """`silu(gate) * up` of `gate_up` [rows, 2 · intermediate] plus each row's own `B(A(x))`.

    A(x) is rounded to the compute dtype, the sum with `gate_up` once. Every row has to be in a
    tile, rows of the bare base in tiles of slot -1: others of the product [rows, intermediate] are
    left as they are found.
    """
    partial = shrink(x, site, tiles, PROMPT_TUNING)
    rows, intermediate = len(gate_up), site.widths[0]
    product = torch.empty(rows, intermediate, dtype=gate_up.dtype, device=gate_up.device)
    splits, _, _, ranks = partial.shape
    early = starts_early(gate_up)
    _adapted_silu_mul_kernel[(triton.cdiv(intermediate, BLOCK), len(tiles.slots))](
        product,
        gate_up,
        partial,
        site.arena,
        site.table,
        tiles.slots,
        tiles.rows,
        rows,
        intermediate,
        site.table.stride(0),
        splits=splits,
        ranks=ranks,
        tile_rows=tiles.tile_rows,
        block=BLOCK,
        rank_step=RANK_STEP,
        alignment=alignment_of(*site.widths),
        early=early,
        num_warps=NUM_WARPS,
        num_stages=1,
        launch_pdl=early,
    )
    return product


@triton.jit(do_not_specialize=["rows"])  # or it would be compiled for each bucket's divisibility
def _adapted_silu_mul_kernel(
    product,
    gate_up,
    partial,
    arena,
    table,
    tile_slots,
    tile_row_numbers,
    rows,
    intermediate,
    table_stride,
    splits: tl.constexpr,
    ranks: tl.constexpr,
    tile_rows: tl.constexpr,
    block: tl.constexpr,
    rank_step: tl.constexpr,
    alignment: tl.constexpr,
    early: tl.constexpr,
):
    """A tile of rows and one block of features, gate and up."""
    let_next_start(early)
    tile = tl.program_id(1)
    slot = tl.load(tile_slots + tile)
    row = tl.load(tile_row_numbers + tile * tile_rows + tl.arange(0, tile_rows))
    column = tl.program_id(0) * block + tl.arange(0, block)
    is_row, inside = (row >= 0)[:, None], (column < intermediate)[None, :]
    entry = table + tl.maximum(slot, 0).to(tl.int64) * table_stride
    wait_for_inputs(early)
    if tl.max(row, 0) >= 0:
        gate_at = gate_up + row.to(tl.int64)[:, None] * 2 * intermediate + column[None, :]
        gate = tl.load(gate_at, mask=is_row & inside, other=0.0)
        up = tl.load(gate_at + intermediate, mask=is_row & inside, other=0.0)
        if slot >= 0:
            sums_at = partial + row[:, None] * ranks + tl.arange(0, rank_step)[None, :]
            gate = _with_expanded(
                gate, sums_at, arena, entry, column, intermediate, 2 * rows * ranks,
                is_row, inside, splits, rank_step, alignment,
            )  # fmt: skip
            up = _with_expanded(
                up, sums_at + rows * ranks, arena, entry + 3, column, intermediate,
                2 * rows * ranks, is_row, inside, splits, rank_step, alignment,
            )  # fmt: skip
        wide = gate.to(tl.float32)
        activated = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype)
        multiplied = activated.to(tl.float32) * up.to(tl.float32)
        product_at = product + row.to(tl.int64)[:, None] * intermediate + column[None, :]
        tl.store(product_at, multiplied, mask=is_row & inside)


@triton.jit
def _with_expanded(
    before,
    sums_at,
    arena,
    entry,
    column,
    width,
    split_stride,
    is_row,
    inside,
    splits: tl.constexpr,
    rank_step: tl.constexpr,
    alignment: tl.constexpr,
):
    """`before` plus `B(A(x))` of one part, rounded once."""
    factor = arena + tl.multiple_of(tl.load(entry + 1), alignment)
    rank = tl.load(entry + 2).to(tl.int32)
    lane = tl.arange(0, rank_step)
    sums = tl.zeros(before.shape, tl.float32)
    for first in range(0, rank, rank_step):
        weight_at = factor + (first + lane)[:, None] * width + column[None, :]
        weight = tl.load(weight_at, mask=(first + lane < rank)[:, None] & inside, other=0.0)
        shrunk = tl.zeros((before.shape[0], rank_step), tl.float32)
        for split in tl.static_range(splits):
            shrunk += tl.load(sums_at + first + split * split_stride, mask=is_row, other=0.0)
        sums = tl.dot(shrunk.to(weight.dtype), weight, sums, input_precision="ieee")
    return (before.to(tl.float32) + sums).to(before.dtype)
