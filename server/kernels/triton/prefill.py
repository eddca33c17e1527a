"""Causal attention of prompt chunks over the paged KV cache, several sequences in one launch.

One program a tile of queries and a head; online softmax (Dao et al., arXiv 2205.14135).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.triton.chunks import PromptChunks
from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs
from server.kernels.triton.online_softmax import absorb
from server.kernels.triton.room import empty_rows

QUERIES, NUM_WARPS = 64, 4  # so few that two programs of a multiprocessor cover each other's waits
EXACT_QUERIES, EXACT_WARPS = 32, 8  # in fp32, which is multiplied without tensor cores
KEYS = 64
LOG2_E = 1.4426950408889634


def prefill_attention(
    query: torch.Tensor,
    cache: torch.Tensor,
    chunks: PromptChunks,
    *,
    window: int | None = None,
    kv_scales: tuple[float, float] = (1.0, 1.0),
    room: int = 0,
) -> torch.Tensor:
    """Causal attention of prompt chunks: `query` [tokens, heads, head_dim] → the same shape.

    cache: one layer's [2, blocks, block_size, kv_heads, head_dim]; the chunks' own keys are in it.
    window: how many tokens a query sees, itself included. kv_scales: what stored keys and values
    are multiplied by. room: elements that each token of the result has behind it.
    """
    tokens, heads, head_dim = query.shape
    _, _, block_size, kv_heads, _ = cache.shape
    output = empty_rows(query, heads * head_dim, room).view(query.shape)
    is_exact = query.dtype == torch.float32
    queries, warps = (EXACT_QUERIES, EXACT_WARPS) if is_exact else (QUERIES, NUM_WARPS)
    sequences = len(chunks.context_lengths)
    tiles = min(sequences * triton.cdiv(chunks.longest, queries), tokens // queries + sequences)
    early = starts_early(query)
    _prefill_kernel[(heads, tiles)](
        output,
        query,
        cache,
        chunks.block_tables,
        chunks.starts,
        chunks.context_lengths,
        query.stride(0),
        query.stride(1),
        output.stride(0),
        *cache.stride()[:4],
        chunks.block_tables.stride(0),
        kv_scales[0] * LOG2_E * head_dim**-0.5,
        kv_scales[1],
        window or 0,
        sequences,
        places=triton.next_power_of_2(sequences),
        head_dim=head_dim,
        group=heads // kv_heads,
        lanes=triton.next_power_of_2(head_dim),
        block_size=block_size,
        queries=queries,
        keys=KEYS,
        early=early,
        num_warps=warps,
        num_stages=3,
        launch_pdl=early,
    )
    return output


@triton.jit(do_not_specialize=["sequences"])  # or one would be compiled as a constant
def _prefill_kernel(
    output,
    query,
    cache,
    block_tables,
    starts,
    context_lengths,
    query_stride,
    query_head_stride,
    output_stride,
    kind_stride,
    block_stride,
    offset_stride,
    head_stride,
    table_stride,
    key_scale,
    value_scale,
    window,
    sequences,
    places: tl.constexpr,
    head_dim: tl.constexpr,
    group: tl.constexpr,
    lanes: tl.constexpr,
    block_size: tl.constexpr,
    queries: tl.constexpr,
    keys: tl.constexpr,
    early: tl.constexpr,
):
    """A head and a tile of queries of one sequence; spare programs find none.

    All heads of a sequence's last tile come first, since that one takes the longest.
    """
    let_next_start(early)
    head = tl.program_id(0)
    sequence, tile = _tile_of(tl.program_id(1), starts, sequences, queries, places)
    wait_for_inputs(early)
    if tile >= 0:
        first_row = tl.load(starts + sequence)
        count = tl.load(starts + sequence + 1) - first_row
        length = tl.load(context_lengths + sequence)
        number = tile * queries + tl.arange(0, queries)
        position = length - count + number
        lane = tl.arange(0, lanes)
        is_lane, is_query = lane < head_dim, number < count
        row = (first_row + number).to(tl.int64)
        inside = is_query[:, None] & is_lane[None, :]
        query_at = query + row[:, None] * query_stride + head * query_head_stride + lane[None, :]
        asked = tl.load(query_at, mask=inside, other=0.0)
        first = length - count + tile * queries
        begin = tl.where(window > 0, tl.maximum(first - window + 1, 0) // keys * keys, 0)
        end = tl.minimum(first + queries, length)
        shared = tl.where(window > 0, begin, tl.minimum(first + 1, end) // keys * keys)
        head_at = cache + (head // group) * head_stride + lane[None, :]
        table = block_tables + sequence.to(tl.int64) * table_stride

        highest = tl.full((queries,), float("-inf"), tl.float32)
        total = tl.zeros((queries,), tl.float32)
        gathered = tl.zeros((queries, lanes), tl.float32)
        for start in range(begin, shared, keys):  # every query sees these tokens
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
                begin,
                end,
                position,
                window,
                key_scale,
                is_lane,
                block_size=block_size,
                is_causal=False,
            )
        for start in range(shared, end, keys):
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
                begin,
                end,
                position,
                window,
                key_scale,
                is_lane,
                block_size=block_size,
                is_causal=True,
            )
        gathered *= (value_scale / tl.where(total > 0, total, 1.0))[:, None]
        output_at = output + row[:, None] * output_stride + head * head_dim + lane[None, :]
        tl.store(output_at, gathered, mask=inside)


@triton.jit
def _tile_of(number, starts, sequences, queries: tl.constexpr, places: tl.constexpr):
    """The sequence and its tile that come `number`th from the end; tile -1 where there is none."""
    place = tl.arange(0, places)
    is_sequence = place < sequences
    first = tl.load(starts + place, mask=is_sequence, other=0)
    tiles = tl.cdiv(tl.load(starts + place + 1, mask=is_sequence, other=0) - first, queries)
    number = tl.sum(tiles, 0) - 1 - number
    sequence = tl.sum((tl.cumsum(tiles, 0) <= number).to(tl.int32), 0)
    tile = number - tl.sum(tl.where(place < sequence, tiles, 0), 0)
    return sequence, tl.where(number >= 0, tile, -1)
