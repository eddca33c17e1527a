"""Decode attention over the paged KV cache, each context divided among programs (flash-decoding).

A program holds the query heads of one KV head, so keys and values are read once for the group
(Dao et al., "Flash-Decoding", 2023). Partial results are merged in a fixed order; how a context is
divided depends on its own length and on `splits` alone, so with one number of splits for every
bucket a row's bits are the same in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from server.kernels.triton.early_launch import (
    let_next_start,
    prefetch,
    starts_early,
    wait_for_inputs,
)
from server.kernels.triton.online_softmax import absorb
from server.kernels.triton.splits import MOST_SPLITS

LEAST_GROUP = 16  # query heads that a tensor core multiplies at least
CACHE_LINE = 128  # bytes
LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class DecodeTuning:
    """How a program goes through its part of a context; measured on one H200."""

    keys: int = 64  # tokens that it looks at together
    warps: int = 4
    stages: int = 3


DEFAULT_TUNING = DecodeTuning()


def decode_attention(
    query: torch.Tensor,
    cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lengths: torch.Tensor,
    *,
    splits: int,
    window: int | None = None,
    kv_scales: tuple[float, float] = (1.0, 1.0),
    tuning: DecodeTuning = DEFAULT_TUNING,
) -> torch.Tensor:
    """One query a sequence: `query` [rows, heads, head_dim] → the same shape, contiguous.

    cache: one layer's [2, blocks, block_size, kv_heads, head_dim], head_dim dense.
    block_tables: [rows, blocks] int32. context_lengths: [rows] int32, the query's own token
    included; 0 gives zeros. window: how many tokens a query sees, itself included. kv_scales: what
    stored keys and values are multiplied by.
    """
    rows, heads, head_dim = query.shape
    _, _, block_size, kv_heads, _ = cache.shape
    output = torch.empty(rows, heads, head_dim, dtype=query.dtype, device=query.device)
    parts, weights = _partial(output, splits)
    early = starts_early(query)
    _decode_kernel[(kv_heads, splits, rows)](
        parts,
        weights,
        query,
        cache,
        block_tables,
        context_lengths,
        query.stride(0),
        query.stride(1),
        *cache.stride()[:4],
        block_tables.stride(0),
        kv_scales[0] * LOG2_E * head_dim**-0.5,
        kv_scales[1],
        window or 0,
        splits,
        head_dim=head_dim,
        group=heads // kv_heads,
        group_block=max(LEAST_GROUP, triton.next_power_of_2(heads // kv_heads)),
        lanes=triton.next_power_of_2(head_dim),
        block_size=block_size,
        keys=tuning.keys,
        line=CACHE_LINE // cache.itemsize,
        lines=triton.next_power_of_2(triton.cdiv(head_dim * cache.itemsize, CACHE_LINE)),
        is_whole=splits == 1,
        early=early,
        num_warps=tuning.warps,
        num_stages=tuning.stages,
        launch_pdl=early,
    )
    if splits > 1:
        _merge(output, parts, weights, context_lengths, window or 0, tuning.keys)
    return output


def _partial(output: torch.Tensor, splits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the splits' results go, and each one's highest score and sum: fp32 unless it is one."""
    if splits == 1:
        return output, output
    rows, heads, head_dim = output.shape
    parts = torch.empty(rows, heads, splits, head_dim, dtype=torch.float32, device=output.device)
    return parts, parts.new_empty(rows, heads, splits, 2)


def _merge(
    output: torch.Tensor,
    parts: torch.Tensor,
    weights: torch.Tensor,
    context_lengths: torch.Tensor,
    window: int,
    keys: int,
) -> None:
    rows, heads, splits, head_dim = parts.shape
    early = starts_early(output)
    _merge_kernel[(rows * heads,)](
        output,
        parts,
        weights,
        context_lengths,
        window,
        splits,
        heads=heads,
        keys=keys,
        head_dim=head_dim,
        split_block=triton.next_power_of_2(max(splits, MOST_SPLITS)),
        lanes=triton.next_power_of_2(head_dim),
        early=early,
        num_warps=2,
        launch_pdl=early,
    )


@triton.jit(do_not_specialize=["splits"])
def _decode_kernel(
    result,
    weights,
    query,
    cache,
    block_tables,
    context_lengths,
    query_stride,
    query_head_stride,
    kind_stride,
    block_stride,
    offset_stride,
    head_stride,
    table_stride,
    key_scale,
    value_scale,
    window,
    splits,
    head_dim: tl.constexpr,
    group: tl.constexpr,
    group_block: tl.constexpr,
    lanes: tl.constexpr,
    block_size: tl.constexpr,
    keys: tl.constexpr,
    line: tl.constexpr,
    lines: tl.constexpr,
    is_whole: tl.constexpr,
    early: tl.constexpr,
):
    let_next_start(early)
    kv_head, split, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    oldest, begin, end = _tokens_of(context_lengths, row, window, split, splits, keys)
    table = block_tables + row * table_stride
    _prefetch_tokens(
        cache + kv_head * head_stride, kind_stride, block_stride, offset_stride, table, begin,
        end, head_dim, block_size, keys, line, lines, early,
    )  # fmt: skip
    wait_for_inputs(early)

    lane, member = tl.arange(0, lanes), tl.arange(0, group_block)
    head = kv_head * group + member
    is_head, is_lane = member < group, lane < head_dim
    query_at = query + row * query_stride + head[:, None] * query_head_stride + lane[None, :]
    asked = tl.load(query_at, mask=is_head[:, None] & is_lane[None, :], other=0.0)
    head_at = cache + kv_head * head_stride + lane[None, :]

    highest = tl.full((group_block,), float("-inf"), tl.float32)
    total = tl.zeros((group_block,), tl.float32)
    gathered = tl.zeros((group_block, lanes), tl.float32)
    for start in range(begin, end, keys):
        highest, total, gathered = absorb(
            highest,
            total,
            gathered,
            asked,
            head_at,
            kind_stride,
            block_stride,
            offset_stride,
            table,
            start + tl.arange(0, keys),
            oldest,
            end,
            0,
            0,
            key_scale,
            is_lane,
            block_size=block_size,
            is_causal=False,
        )

    at = (row * tl.num_programs(0) * group + head) * splits + split
    stores = is_head[:, None] & is_lane[None, :]
    divided = gathered * (value_scale / tl.where(total > 0, total, 1.0))[:, None]
    tl.store(result + at[:, None] * head_dim + lane[None, :], divided, mask=stores)
    if not is_whole:
        tl.store(weights + at * 2, highest, mask=is_head)
        tl.store(weights + at * 2 + 1, total, mask=is_head)


@triton.jit
def _tokens_of(context_lengths, row, window, split, splits, keys: tl.constexpr):
    """The oldest token that a row sees, and those [begin, end) of one split."""
    length = tl.load(context_lengths + row)
    oldest = tl.where(window > 0, tl.maximum(length - window, 0), 0)
    first_step = oldest // keys
    steps = tl.cdiv(tl.cdiv(length, keys) - first_step, splits)
    begin = (first_step + split * steps) * keys
    return oldest, begin, tl.minimum(begin + steps * keys, length)


@triton.jit
def _prefetch_tokens(
    head_at,
    kind_stride,
    block_stride,
    offset_stride,
    table,
    begin,
    end,
    head_dim: tl.constexpr,
    block_size: tl.constexpr,
    keys: tl.constexpr,
    line: tl.constexpr,
    lines: tl.constexpr,
    early: tl.constexpr,
):
    """Ask early for the first keys and values; all but the newest are there since other steps."""
    if early:
        token = begin + tl.arange(0, keys)
        lane = tl.arange(0, lines) * line
        held = token < end
        block = tl.load(table + token // block_size, mask=held, other=0).to(tl.int64)
        token_at = block * block_stride + (token % block_size) * offset_stride
        at = head_at + token_at[:, None] + lane[None, :]
        wanted = held[:, None] & (lane < head_dim)[None, :]
        prefetch(at, wanted, early)
        prefetch(at + kind_stride, wanted, early)


@triton.jit(do_not_specialize=["splits"])
def _merge_kernel(
    output,
    parts,
    weights,
    context_lengths,
    window,
    splits,
    heads: tl.constexpr,
    keys: tl.constexpr,
    head_dim: tl.constexpr,
    split_block: tl.constexpr,
    lanes: tl.constexpr,
    early: tl.constexpr,
):
    """Weigh each split's result by its share of the softmax; a split without tokens has none."""
    let_next_start(early)
    at = tl.program_id(0).to(tl.int64)
    split, lane = tl.arange(0, split_block), tl.arange(0, lanes)
    _, begin, end = _tokens_of(context_lengths, at // heads, window, split, splits, keys)
    is_split = (split < splits) & (begin < end)
    wait_for_inputs(early)
    stats = weights + (at * splits + split) * 2
    highest = tl.load(stats, mask=is_split, other=float("-inf"))
    total = tl.load(stats + 1, mask=is_split, other=0.0)
    peak = tl.max(highest, 0)
    weight = total * tl.exp2(highest - tl.where(peak == float("-inf"), 0.0, peak))
    stored = (at * splits + split)[:, None] * head_dim + lane[None, :]
    reads = is_split[:, None] & (lane < head_dim)[None, :]
    part = tl.load(parts + stored, mask=reads, other=0.0)
    sum_of_weights = tl.sum(weight, 0)
    merged = tl.sum(part * weight[:, None], 0) / tl.where(sum_of_weights > 0, sum_of_weights, 1.0)
    tl.store(output + at * head_dim + lane, merged, mask=lane < head_dim)
