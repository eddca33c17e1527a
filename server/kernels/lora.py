"""Many LoRA adapters in one batch.

`y += scaling · B(A(x))` (Hu et al., arXiv 2106.09685) with each row's own adapter. Computed in
fp32 on CPU, as peft does. The scaling is folded into B when an adapter is packed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

MIN_ROWS = 8  # below this, CPU matrix libraries sum a row in another order than above it


@dataclass(frozen=True)
class LoraSegment:
    """Consecutive rows of a batch that share one adapter's factors."""

    start: int
    stop: int
    shrink: torch.Tensor  # A: [rank, in_features]
    expand: torch.Tensor  # B, transposed and scaled: [rank, out_features]


@dataclass(frozen=True)
class LoraStack:
    """Several adapters' factors one below the other, and which rank columns each row owns.

    shrink: [Σ ranks, in_features]; expand: [Σ ranks, out_features]; mask: [rows, Σ ranks] of 0 and
    1. A masked column contributes exact zeros, so a row's result is that of its own adapter alone.
    """

    shrink: torch.Tensor
    expand: torch.Tensor
    mask: torch.Tensor


def padded_fp32(x: torch.Tensor) -> torch.Tensor:
    """`x` [rows, features] in fp32, with zero rows below it up to MIN_ROWS."""
    if x.shape[0] >= MIN_ROWS:
        return x.float()
    padded = torch.zeros(MIN_ROWS, x.shape[1], dtype=torch.float32, device=x.device)
    padded[: x.shape[0]] = x
    return padded


def add_segment(y: torch.Tensor, x: torch.Tensor, segment: LoraSegment) -> None:
    """Add one adapter's part to its rows of `y` [rows, out_features], in place."""
    rows = slice(segment.start, segment.stop)
    shrunk = padded_fp32(x[rows]) @ segment.shrink.T
    delta = shrunk @ segment.expand
    y[rows] += delta[: segment.stop - segment.start]


def add_stack(y: torch.Tensor, x: torch.Tensor, stack: LoraStack) -> None:
    """Add several adapters' parts to the first rows of `y` at once, in place."""
    count = stack.mask.shape[0]
    shrunk = padded_fp32(x[:count]) @ stack.shrink.T
    shrunk[:count] *= stack.mask
    y[:count] += (shrunk @ stack.expand)[:count]
