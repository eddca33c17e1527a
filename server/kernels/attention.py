"""Grouped-query attention over a paged KV cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class AttentionGroup:
    """Rows of one batch that attend together: decoding sequences of similar length, or one chunk.

    num_queries is how many consecutive tokens each sequence contributes (1 when decoding).
    rows: [sequences · num_queries] where those tokens stand in the batch, or a slice of them.
    block_table: [sequences, blocks], padded with block 0, whose content is always masked.
    mask: [sequences, 1, group_size · num_queries, blocks · block_size] additive, 0 or -inf, in
    the compute dtype, query heads of one KV head before positions.
    """

    rows: torch.Tensor | slice
    num_queries: int
    block_table: torch.Tensor
    mask: torch.Tensor


def write_kv(
    cache: torch.Tensor, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> None:
    """Put `keys`, `values` [tokens, kv_heads, head_dim] at `slots` [tokens] of one layer's cache.

    cache: [2, blocks, block_size, kv_heads, head_dim]; a slot is block · block_size + offset.
    """
    flat = cache.flatten(1, 2)
    flat[0].index_copy_(0, slots, keys)
    flat[1].index_copy_(0, slots, values)


def attend(query: torch.Tensor, cache: torch.Tensor, group: AttentionGroup) -> torch.Tensor:
    """Attention of one group: `query` [rows, heads, head_dim] → the same shape.

    The heads that share a KV head are laid out as further queries of it, so nothing is repeated.
    Padding is masked with -inf and adds exactly nothing, so a row's result is its own.
    """
    sequences = group.block_table.shape[0]
    kv_heads, head_dim = cache.shape[-2:]
    heads = query.shape[1]
    keys = _gather(cache[0], group.block_table)
    values = _gather(cache[1], group.block_table)
    folded = (
        query.view(sequences, group.num_queries, kv_heads, heads // kv_heads, head_dim)
        .permute(0, 2, 3, 1, 4)
        .reshape(sequences, kv_heads, -1, head_dim)
    )
    attended = scaled_dot_product_attention(folded, keys, values, attn_mask=group.mask)
    return (
        attended.view(sequences, kv_heads, heads // kv_heads, group.num_queries, head_dim)
        .permute(0, 3, 1, 2, 4)
        .reshape(sequences * group.num_queries, heads, head_dim)
    )


def _gather(cache: torch.Tensor, block_table: torch.Tensor) -> torch.Tensor:
    """One layer's keys or values of each sequence: [sequences, kv_heads, context, head_dim]."""
    sequences, blocks = block_table.shape
    _, block_size, kv_heads, head_dim = cache.shape
    gathered = cache.index_select(0, block_table.view(-1))
    return gathered.view(sequences, blocks * block_size, kv_heads, head_dim).transpose(1, 2)
