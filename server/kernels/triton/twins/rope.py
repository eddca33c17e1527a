"""Rotate queries and keys, and write keys and values into the cache: the definition."""

from __future__ import annotations

import torch

from server.kernels.rope import RopeTable, rotate
from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.twins.lora import expanded


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
    rounded once.
    """
    block_size, kv_heads, head_dim = cache.shape[2:]
    heads = expanded(qkv, delta).view(len(qkv), -1, head_dim)
    rotated = rotate(heads[:, :-kv_heads], *rope.at(positions))
    qkv.view_as(heads)[:, : -2 * kv_heads] = rotated[:, :-kv_heads]
    kept = kv_slots >= 0
    block, offset = kv_slots[kept] // block_size, kv_slots[kept] % block_size
    pairs = (rotated[kept, -kv_heads:], heads[kept, -kv_heads:])
    for kind, (value, scale) in enumerate(zip(pairs, kv_scales, strict=True)):
        scaled = value if scale == 1.0 else value.float() / scale
        cache[kind, block, offset] = scaled.to(cache.dtype)
