"""Causal attention among rows that lie behind one another, each seeing itself alone."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

_FLASH = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Rows:
    """Where rows begin and end: `bounds` [rows + 1] (int32, on the device), `longest` in tokens."""

    bounds: torch.Tensor
    longest: int


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rows: Rows,
    *,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """`q` [tokens, heads, size], `k` and `v` [tokens, kv heads, size] → [tokens, heads, size].

    With `window`, a token sees itself and window − 1 tokens before it.
    """
    if q.is_cuda and q.dtype in _FLASH:
        from torch.nn.attention.varlen import varlen_attn

        left = -1 if window is None or window > rows.longest else window - 1
        bounds, longest = rows.bounds, rows.longest
        mixed = varlen_attn(
            q, k, v, bounds, bounds, longest, longest,
            scale=scale, window_size=(left, 0), **_grouped(),
        )  # fmt: skip
        assert isinstance(mixed, torch.Tensor)  # sums are for those who ask
        return mixed
    mask = seen(rows.bounds, len(q), window)
    q, k, v = (part.transpose(0, 1)[None] for part in (q, k, v))
    mixed = scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=True)
    return mixed[0].transpose(0, 1)


def seen(bounds: torch.Tensor, tokens: int, window: int | None) -> torch.Tensor:
    """Which token [tokens, 1] sees which [1, tokens]."""
    place = torch.arange(tokens, device=bounds.device)
    row = torch.bucketize(place, bounds[1:], right=True)
    back = place[:, None] - place[None, :]
    visible = (row[:, None] == row[None, :]) & (back >= 0)
    return visible if window is None else visible & (back < window)


@cache
def _grouped() -> dict[str, Any]:
    """torch 2.11 shares key heads unasked, later ones when told to."""
    from torch.nn.attention.varlen import varlen_attn

    named = "enable_gqa" in inspect.signature(varlen_attn).parameters
    return {"enable_gqa": True} if named else {}
