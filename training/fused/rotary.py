"""Rotary positions (RoFormer, arXiv 2104.09864), whose way back is the turn the other way."""

from __future__ import annotations

from typing import Any

import torch


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """`x` [tokens, heads, size] turned by angles of `cos` and `sin` [tokens, size].

    Element i turns with element i + size / 2, as in transformers; both halves of an angle's row
    are the same.
    """
    turned: torch.Tensor = _Rotated.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return turned


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return turn(gradient.contiguous(), cos, -sin), None, None


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """One turn, each product and their sum rounded."""
    if x.is_cuda:
        from .kernels import rotary

        return rotary.turn(x, cos, sin)
    left, right = x.chunk(2, dim=-1)
    crossed = torch.cat([-right, left], dim=-1)
    return x * cos[:, None] + crossed * sin[:, None]
