"""Many LoRA adapters in one batch.

`y += scaling · B(A(x))` (Hu et al., arXiv 2106.09685) with each row's own adapter. Factors are in
the compute dtype; the scaling is folded into B when an adapter is packed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import linear, pad

MULTIPLE = 8
"""Fewer rows than this, and ranks that are no multiple of it, CPU libraries sum in another order:
rows are padded here, ranks where factors are put into slots."""


@dataclass(frozen=True)
class LoraSegment:
    """Consecutive rows of a batch that share one adapter's factors."""

    start: int
    stop: int
    shrink: torch.Tensor  # A: [rank, in_features]
    expand: torch.Tensor  # B, transposed and scaled: [rank, out_features]


@dataclass(frozen=True)
class LoraStack:
    """Several adapters' factors one below the other, and which rank columns are not a row's own.

    shrink: [Σ ranks, in_features]; expand: [Σ ranks, out_features]; foreign: [rows, Σ ranks] of
    bool. A foreign column contributes exact zeros, so a row's result is that of its own adapter
    alone, even if another adapter's product is not finite.
    """

    shrink: torch.Tensor
    expand: torch.Tensor
    foreign: torch.Tensor


def padded(x: torch.Tensor) -> torch.Tensor:
    """`x` [rows, features], with zero rows below it up to MULTIPLE."""
    if x.shape[0] >= MULTIPLE:
        return x
    return pad(x, (0, 0, 0, MULTIPLE - x.shape[0]))


def add_segment(y: torch.Tensor, x: torch.Tensor, segment: LoraSegment) -> None:
    """Add one adapter's part to its rows of `y` [rows, out_features], in place."""
    if segment.stop - segment.start < len(y):
        y, x = y[segment.start : segment.stop], x[segment.start : segment.stop]
    _add_product(y, linear(padded(x), segment.shrink), segment.expand)


def add_stack(y: torch.Tensor, x: torch.Tensor, stack: LoraStack) -> None:
    """Add several adapters' parts to the first rows of `y` at once, in place."""
    count = stack.foreign.shape[0]
    shrunk = linear(padded(x[:count]), stack.shrink)
    shrunk[:count].masked_fill_(stack.foreign, 0)
    _add_product(y[:count], shrunk, stack.expand)


def _add_product(y: torch.Tensor, shrunk: torch.Tensor, expand: torch.Tensor) -> None:
    """`y` [rows, out] += `shrunk` [rows or more, rank] @ `expand` [rank, out]."""
    if len(shrunk) == len(y):
        y.addmm_(shrunk, expand)
    else:  # added inside the product here too: in bf16 a sum of rounded parts is another number
        y.copy_(torch.addmm(padded(y), shrunk, expand)[: len(y)])
