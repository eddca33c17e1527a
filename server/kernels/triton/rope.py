"""Rotate queries and keys, and write keys and values into the paged cache, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.rope import RopeTable
from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs

HEADS = 8  # of a program


def rotate_and_write(
    qkv: torch.Tensor,
    rope: RopeTable,
    positions: torch.Tensor,
    kv_slots: torch.Tensor,
    cache: torch.Tensor,
    *,
    kv_scales: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Rotate the queries in `qkv` in place; put rotated keys, and values, into the cache.

    qkv: [tokens, (heads + 2 · kv_heads) · head_dim], query, key, then value heads; its keys and
    values stay as they are. positions, kv_slots: [tokens] int64; a slot is block · block_size +
    offset, -1 writes nothing. cache: one layer's [2, blocks, block_size, kv_heads, head_dim];
    what it holds times kv_scales is the key or value. One program a token and HEADS heads.
    """
    _, _, block_size, kv_heads, head_dim = cache.shape
    heads = qkv.shape[1] // head_dim
    early = starts_early(qkv)
    _rotate_and_write_kernel[(len(qkv), triton.cdiv(heads, HEADS))](
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
        block_size=block_size,
        queries=heads - 2 * kv_heads,
        kv_heads=kv_heads,
        heads=HEADS,
        half=head_dim // 2,
        block=triton.next_power_of_2(head_dim // 2),
        early=early,
        num_warps=1,
        launch_pdl=early,
    )


@triton.jit
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
    block_size: tl.constexpr,
    queries: tl.constexpr,
    kv_heads: tl.constexpr,
    heads: tl.constexpr,
    half: tl.constexpr,
    block: tl.constexpr,
    early: tl.constexpr,
):
    let_next_start(early)
    wait_for_inputs(early)
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * heads + tl.arange(0, heads)
    lane = tl.arange(0, block)
    is_lane = lane < half
    is_query, is_value = head < queries, head >= queries + kv_heads
    inside = (head < queries + 2 * kv_heads)[:, None] & is_lane[None, :]
    slot = tl.load(kv_slots + token)
    first_at = qkv + token * token_stride + head[:, None] * (2 * half) + lane[None, :]
    first = tl.load(first_at, mask=inside, other=0.0)
    second = tl.load(first_at + half, mask=inside, other=0.0)
    table_at = tl.load(positions + token) * 2 * half + lane
    turned_first, turned_second = _rotate(
        first, second, cos + table_at, sin + table_at, half, is_lane
    )
    first = tl.where(is_value[:, None], first, turned_first)
    second = tl.where(is_value[:, None], second, turned_second)

    tl.store(first_at, first, mask=inside & is_query[:, None])
    tl.store(first_at + half, second, mask=inside & is_query[:, None])
    kv_head = head - queries - tl.where(is_value, kv_heads, 0)
    factor = tl.where(is_value, value_factor, key_factor)[:, None]
    head_at = tl.where(is_value, kind_stride, 0) + kv_head.to(tl.int64) * head_stride
    slot_at = slot // block_size * block_stride + slot % block_size * offset_stride
    cache_at = cache + slot_at + head_at[:, None] + lane[None, :]
    writes = inside & (slot >= 0) & (head >= queries)[:, None]
    kind = cache.dtype.element_ty
    tl.store(cache_at, (first.to(tl.float32) * factor).to(kind), mask=writes)
    tl.store(cache_at + half, (second.to(tl.float32) * factor).to(kind), mask=writes)


@triton.jit
def _rotate(first, second, cos, sin, half: tl.constexpr, is_lane):
    """Both halves of heads, rotated; the product with the cosine is rounded, as in the twin."""
    dtype = first.dtype
    cosine = tl.load(cos, mask=is_lane, other=0.0).to(tl.float32)[None, :]
    negated_sine = tl.load(sin, mask=is_lane, other=0.0).to(tl.float32)[None, :]
    sine = tl.load(sin + half, mask=is_lane, other=0.0).to(tl.float32)[None, :]
    one, two = first.to(tl.float32), second.to(tl.float32)
    turned_first = (one * cosine).to(dtype).to(tl.float32) + two * negated_sine
    turned_second = (two * cosine).to(dtype).to(tl.float32) + one * sine
    return turned_first.to(dtype), turned_second.to(dtype)
