"""Causal attention among rows that lie behind one another, each seeing itself alone."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
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
    places = [slice(*ends) for ends in pairwise(rows.bounds.tolist())]
    each = [_attend_row(q[at], k[at], v[at], scale=scale, window=window) for at in places]
    return torch.cat(each)


def _attend_row(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, scale: float, window: int | None
) -> torch.Tensor:
    """One row by torch's own attention: fp32 and CPUs have none for rows of any length, and a mask
    over all tokens would take their square.
    """
    mask = None if window is None or window >= len(q) else _near(len(q), window, q.device)
    q, k, v = (part.transpose(0, 1)[None] for part in (q, k, v))  # [1, heads, tokens, size]
    mixed = scaled_dot_product_attention(
        q, k, v, mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )
    return mixed[0].transpose(0, 1)


def _near(tokens: int, window: int, device: torch.device) -> torch.Tensor:
    """Which token [tokens, 1] sees which [1, tokens]: itself and window - 1 before it."""
    place = torch.arange(tokens, device=device)
    back = place[:, None] - place[None, :]
    return (back >= 0) & (back < window)


@cache
def _grouped() -> dict[str, Any]:
    """torch 2.11 shares key heads unasked, later ones when told to."""
    from torch.nn.attention.varlen import varlen_attn

    named = "enable_gqa" in inspect.signature(varlen_attn).parameters
    return {"enable_gqa": True} if named else {}
