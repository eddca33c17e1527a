"""Rotate queries and keys, and write keys and values into the paged cache, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.rope import RopeTable
from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.delta_sum import (
    delta_alignment,
    delta_arguments,
    delta_sum,
    factor_of,
    factor_ranks,
)
from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs

HEADS = 8  # of a program
ADAPTED_HEADS = 4  # where it holds their ranks too


def rotate_and_write(
    qkv: torch.Tensor,
    rope: RopeTable,
    positions: torch.Tensor,
    kv_slots: torch.Tensor,
    cache: torch.Tensor,
    *,
    kv_scales: tuple[float, float] = (1.0, 1.0),
    delta: LoraDelta | None = None,
) -> None:
    """Rotate the queries in `qkv` in place; put rotated keys, and values, into the cache.

    qkv: [tokens, (heads + 2 · kv_heads) · head_dim], query, key, then value heads; its keys and
    values stay as they are. positions, kv_slots: [tokens] int64; a slot is block · block_size +
    offset, -1 writes nothing. cache: one layer's [2, blocks, block_size, kv_heads, head_dim];
    what it holds times kv_scales is the key or value. delta: what adapters add to `qkv` before,
    rounded once. One program a token and some heads of one kind.
    """
    _, _, block_size, kv_heads, head_dim = cache.shape
    queries = qkv.shape[1] // head_dim - 2 * kv_heads
    heads = HEADS if delta is None else ADAPTED_HEADS
    query_programs, kv_programs = triton.cdiv(queries, heads), triton.cdiv(kv_heads, heads)
    early = starts_early(qkv)
    _rotate_and_write_kernel[(len(qkv), query_programs + 2 * kv_programs)](
        qkv,
        rope.cos,
        rope.sin,
        positions,
        kv_slots,
        cache,
        qkv.stride(0),
        *cache.stride()[:4],
        1.0 / kv_scales[0],
        1.0 / kv_scales[1],
        *delta_arguments(delta, qkv),
        adapted=delta is not None,
        alignment=delta_alignment(delta),
        block_size=block_size,
        queries=queries,
        kv_heads=kv_heads,
        query_programs=query_programs,
        kv_programs=kv_programs,
        heads=heads,
        half=head_dim // 2,
        block=triton.next_power_of_2(head_dim // 2),
        early=early,
        num_warps=1,
        launch_pdl=early,
    )


@triton.jit(do_not_specialize=["splits", "parts", "rows", "ranks"])
def _rotate_and_write_kernel(
    qkv,
    cos,
    sin,
    positions,
    kv_slots,
    cache,
    token_stride,
    kind_stride,
    block_stride,
    offset_stride,
    head_stride,
    key_factor,
    value_factor,
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
    block_size: tl.constexpr,
    queries: tl.constexpr,
    kv_heads: tl.constexpr,
    query_programs: tl.constexpr,
    kv_programs: tl.constexpr,
    heads: tl.constexpr,
    half: tl.constexpr,
    block: tl.constexpr,
    early: tl.constexpr,
):
    let_next_start(early)
    token, program = tl.program_id(0).to(tl.int64), tl.program_id(1)
    part = (program >= query_programs).to(tl.int32) + (program >= query_programs + kv_programs)
    of_part = tl.where(part == 0, queries, kv_heads)
    first_head = tl.where(part == 0, 0, queries + (part - 1) * kv_heads)
    skipped = tl.where(part == 0, 0, query_programs + (part - 1) * kv_programs)
    # Heads of one part, side by side: element e is lane e % block of head e // block.
    element = tl.arange(0, heads * block)
    head, lane = (program - skipped) * heads + element // block, element % block
    inside = (head < of_part) & (lane < half)
    column = head * (2 * half) + lane
    if adapted:
        width = of_part * (2 * half)
        factor, rank = factor_of(arena, table, row_slots, table_stride, token, part, alignment)
        first_weight = factor_ranks(factor, rank, 0, width, column, inside)
        second_weight = factor_ranks(factor, rank, 0, width, column + half, inside)
    slot = tl.load(kv_slots + token)
    table_at = tl.load(positions + token) * 2 * half + lane
    wait_for_inputs(early)

    first_at = qkv + token * token_stride + first_head * (2 * half) + column
    first = tl.load(first_at, mask=inside, other=0.0)
    second = tl.load(first_at + half, mask=inside, other=0.0)
    if adapted:
        first_added = delta_sum(
            partial, splits, parts, rows, ranks, token, part,
            factor, rank, first_weight, width, column, inside,
        )  # fmt: skip
        second_added = delta_sum(
            partial, splits, parts, rows, ranks, token, part,
            factor, rank, second_weight, width, column + half, inside,
        )  # fmt: skip
        first = (first.to(tl.float32) + first_added).to(first.dtype)
        second = (second.to(tl.float32) + second_added).to(second.dtype)
    if part < 2:
        first, second = _rotate(first, second, cos + table_at, sin + table_at, half, lane < half)
    if part == 0:
        tl.store(first_at, first, mask=inside)
        tl.store(first_at + half, second, mask=inside)
    else:
        factor_to = tl.where(part == 2, value_factor, key_factor)
        slot_at = slot // block_size * block_stride + slot % block_size * offset_stride
        head_at = (part - 1) * kind_stride + head.to(tl.int64) * head_stride
        cache_at = cache + slot_at + head_at + lane
        kind = cache.dtype.element_ty
        writes = inside & (slot >= 0)
        tl.store(cache_at, (first.to(tl.float32) * factor_to).to(kind), mask=writes)
        tl.store(cache_at + half, (second.to(tl.float32) * factor_to).to(kind), mask=writes)


@triton.jit
def _rotate(first, second, cos, sin, half: tl.constexpr, is_lane):
    """Both halves of heads, rotated; the product with the cosine is rounded, as in the twin."""
    dtype = first.dtype
    cosine = tl.load(cos, mask=is_lane, other=0.0).to(tl.float32)
    negated_sine = tl.load(sin, mask=is_lane, other=0.0).to(tl.float32)
    sine = tl.load(sin + half, mask=is_lane, other=0.0).to(tl.float32)
    one, two = first.to(tl.float32), second.to(tl.float32)
    turned_first = (one * cosine).to(dtype).to(tl.float32) + two * negated_sine
    turned_second = (two * cosine).to(dtype).to(tl.float32) + one * sine
    return turned_first.to(dtype), turned_second.to(dtype)
