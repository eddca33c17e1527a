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
from server.kernels.triton.lora_expand import expand_all, shrunk, weights
from server.kernels.triton.site import LoraSite
from server.kernels.triton.tiles import LoraTiles

BLOCK = 64  # features of one program
NUM_WARPS = 4


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
    gate_factor, gate_rank = _factor(arena, entry, slot, alignment)
    up_factor, up_rank = _factor(arena, entry + 3, slot, alignment)
    wait_for_inputs(early)
    if tl.max(row, 0) >= 0:
        gate_at = gate_up + row.to(tl.int64)[:, None] * 2 * intermediate + column[None, :]
        gate = tl.load(gate_at, mask=is_row & inside, other=0.0)
        up = tl.load(gate_at + intermediate, mask=is_row & inside, other=0.0)
        gate_sums_at = partial + row[:, None] * ranks + tl.arange(0, rank_step)[None, :]
        up_sums_at, stride = gate_sums_at + rows * ranks, 2 * rows * ranks
        # All loads of the first ranks, mostly all there are, before anything waits for one.
        of_gate = shrunk(gate_sums_at, 0, gate_rank, is_row, stride, splits, gate.dtype)
        of_up = shrunk(up_sums_at, 0, up_rank, is_row, stride, splits, up.dtype)
        for_gate = weights(gate_factor, 0, gate_rank, column, intermediate, inside, rank_step)
        for_up = weights(up_factor, 0, up_rank, column, intermediate, inside, rank_step)
        gate_sums = expand_all(
            of_gate, for_gate, gate_sums_at, gate_factor, gate_rank, column, intermediate, is_row,
            inside, stride, splits, rank_step,
        )  # fmt: skip
        wide = (gate.to(tl.float32) + gate_sums).to(gate.dtype).to(tl.float32)
        activated = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype)
        up_sums = expand_all(
            of_up, for_up, up_sums_at, up_factor, up_rank, column, intermediate, is_row,
            inside, stride, splits, rank_step,
        )  # fmt: skip
        beside = (up.to(tl.float32) + up_sums).to(up.dtype).to(tl.float32)
        product_at = product + row.to(tl.int64)[:, None] * intermediate + column[None, :]
        tl.store(product_at, activated.to(tl.float32) * beside, mask=is_row & inside)


@triton.jit
def _factor(arena, entry, slot, alignment: tl.constexpr):
    """Where B of a part lies, and its rank, 0 for the bare base."""
    factor = arena + tl.multiple_of(tl.load(entry + 1), alignment)
    return factor, tl.where(slot >= 0, tl.load(entry + 2), 0).to(tl.int32)
