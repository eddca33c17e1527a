"""The gated activation of Mistral's MLP in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.delta_sum import (
    delta_alignment,
    delta_arguments,
    delta_sum,
    factor_of,
    factor_ranks,
)
from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs
from server.kernels.triton.room import empty_rows

BLOCK = 1024
ADAPTED_BLOCK = 512  # whose ranks two warps can hold and sum without exchanging anything


def silu_mul(
    gate_up: torch.Tensor, *, delta: LoraDelta | None = None, room: int = 0
) -> torch.Tensor:
    """`silu(gate) * up` for `gate_up` [tokens, 2 · intermediate], gate first; rounds after each.

    delta: what adapters add to `gate_up` before, rounded once; `gate_up` itself stays as it is.
    room: columns that each row of the result has behind it.
    """
    tokens, width = gate_up.shape
    intermediate = width // 2
    product = empty_rows(gate_up, intermediate, room)
    block = BLOCK if delta is None else ADAPTED_BLOCK
    early = starts_early(gate_up)
    _silu_mul_kernel[(tokens, triton.cdiv(intermediate, block))](
        product,
        gate_up,
        intermediate,
        product.stride(0),
        *delta_arguments(delta, gate_up),
        adapted=delta is not None,
        alignment=delta_alignment(delta),
        block=block,
        early=early,
        num_warps=4 if delta is None else 2,
        launch_pdl=early,
    )
    return product


@triton.jit(do_not_specialize=["splits", "parts", "rows", "ranks"])
def _silu_mul_kernel(
    product,
    gate_up,
    intermediate,
    product_stride,
    partial,
    arena,
    table,
    row_slots,
    table_stride,
    splits,
    parts,
    rows,
    ranks,
    adapted: tl.constexpr,
    alignment: tl.constexpr,
    block: tl.constexpr,
    early: tl.constexpr,
):
    let_next_start(early)
    row = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * block + tl.arange(0, block)
    inside = feature < intermediate
    if adapted:
        gate_factor, gate_rank = factor_of(arena, table, row_slots, table_stride, row, 0, alignment)
        up_factor, up_rank = factor_of(arena, table, row_slots, table_stride, row, 1, alignment)
        gate_weight = factor_ranks(gate_factor, gate_rank, 0, intermediate, feature, inside)
        up_weight = factor_ranks(up_factor, up_rank, 0, intermediate, feature, inside)
    wait_for_inputs(early)
    gate_at = gate_up + row * 2 * intermediate + feature
    stored = tl.load(gate_at, mask=inside, other=0.0)
    up = tl.load(gate_at + intermediate, mask=inside, other=0.0)
    if adapted:
        gate_added = delta_sum(
            partial, splits, parts, rows, ranks, row, 0,
            gate_factor, gate_rank, gate_weight, intermediate, feature, inside,
        )  # fmt: skip
        up_added = delta_sum(
            partial, splits, parts, rows, ranks, row, 1,
            up_factor, up_rank, up_weight, intermediate, feature, inside,
        )  # fmt: skip
        stored = (stored.to(tl.float32) + gate_added).to(stored.dtype)
        up = (up.to(tl.float32) + up_added).to(up.dtype)
    gate = stored.to(tl.float32)
    activated = (gate / (1.0 + tl.exp(-gate))).to(stored.dtype)
    multiplied = activated.to(tl.float32) * up.to(tl.float32)
    tl.store(product + row * product_stride + feature, multiplied, mask=inside)
