"""Grouped-query attention over a paged KV cache: the definition."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from server.kernels.triton.chunks import PromptChunks
from server.kernels.triton.room import empty_rows

NO_SCALES = (1.0, 1.0)


def decode_attention(
    query: torch.Tensor,
    cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lengths: torch.Tensor,
    *,
    splits: int,  # noqa: ARG001  how the kernel divides the work; it changes no definition
    window: int | None = None,
    kv_scales: tuple[float, float] = NO_SCALES,
) -> torch.Tensor:
    """One query a sequence: `query` [rows, heads, head_dim] → the same shape, contiguous.

    cache: one layer's [2, blocks, block_size, kv_heads, head_dim]. block_tables: [rows, blocks]
    int32. context_lengths: [rows] int32, the query's own token included; 0 gives zeros. window:
    how many tokens a query sees, itself included. kv_scales: what stored keys and values are
    multiplied by. Computed in fp32 and rounded once.
    """
    output = torch.zeros(query.shape, dtype=query.dtype, device=query.device)
    for row, length in enumerate(context_lengths.tolist()):
        if length:
            keys, values = _context(cache, block_tables[row], length, kv_scales)
            output[row] = _attend(query[row][None], keys, values, window)[0]
    return output


def prefill_attention(
    query: torch.Tensor,
    cache: torch.Tensor,
    chunks: PromptChunks,
    *,
    window: int | None = None,
    kv_scales: tuple[float, float] = NO_SCALES,
    room: int = 0,
) -> torch.Tensor:
    """Causal attention of prompt chunks: `query` [tokens, heads, head_dim] → the same shape.

    cache, window, kv_scales: as for `decode_attention`. The chunk's own keys are in the cache.
    room: elements that each token of the result has behind it.
    """
    output = empty_rows(query, query.shape[1] * query.shape[2], room).zero_().view(query.shape)
    starts = chunks.starts.tolist()
    for index, length in enumerate(chunks.context_lengths.tolist()):
        rows = slice(starts[index], starts[index + 1])
        keys, values = _context(cache, chunks.block_tables[index], length, kv_scales)
        output[rows] = _attend(query[rows], keys, values, window)
    return output


def _context(
    cache: torch.Tensor, blocks: torch.Tensor, length: int, scales: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A sequence's keys and values [length, kv_heads, head_dim], in fp32."""
    used = -(-length // cache.shape[2])
    gathered = cache[:, blocks[:used].long()].flatten(1, 2)[:, :length].float()
    return gathered[0] * scales[0], gathered[1] * scales[1]


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int | None
) -> torch.Tensor:
    """`query` [queries, heads, head_dim] holds the last tokens of the context."""
    context = torch.arange(len(keys), device=query.device)
    positions = context[len(keys) - len(query) :, None]
    visible = context <= positions
    if window is not None:
        visible &= context > positions - window
    attended = scaled_dot_product_attention(
        query.float().transpose(0, 1)[None],
        keys.transpose(0, 1)[None],
        values.transpose(0, 1)[None],
        attn_mask=visible,
        enable_gqa=True,
    )
    return attended[0].transpose(0, 1).to(query.dtype)
