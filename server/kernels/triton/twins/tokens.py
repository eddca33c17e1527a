"""The tokens that a decode step starts with: the definition."""

from __future__ import annotations

import torch


def known_tokens(token_ids: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """What `token_ids` [rows] int64 stand for: a token, or `~r` for `chosen[r]`; at least 0."""
    earlier = chosen[(~token_ids).clamp(min=0)]
    return torch.where(token_ids >= 0, token_ids, earlier).clamp(min=0)
