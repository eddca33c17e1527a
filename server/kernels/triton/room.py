"""Columns left free behind each row of a product's input, where A(x) of one adapter goes."""

from __future__ import annotations

import torch

ROOM = 64
"""Ranks that there is room for; 128 bytes in bf16, so that rows begin where cache lines do, and one
step of the depth of cuBLAS' products."""


def empty_rows(like: torch.Tensor, features: int, room: int) -> torch.Tensor:
    """As many rows as `like` has [rows, features], with so many columns behind each."""
    return like.new_empty(len(like), features + room)[:, :features]


def with_room(x: torch.Tensor) -> torch.Tensor:
    """`x` [rows, features] of `empty_rows` and the columns behind it: [rows, features + room]."""
    return x.as_strided((len(x), x.stride(0)), (x.stride(0), 1))
