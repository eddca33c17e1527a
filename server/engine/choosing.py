"""Choose tokens on the device, so that the next step need not wait for the host."""

from __future__ import annotations

import torch

from server.engine.step_kernels import StepKernels
from server.kernels.triton.row_sampling import NO_TOKEN, RowSampling

__all__ = ["NO_TOKEN", "choose", "draw"]


def choose(
    logits: torch.Tensor, kernels: StepKernels, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """The greedy token of each row of `logits` [rows, vocab]: int64 [rows]; NO_TOKEN for none."""
    return kernels.argmax(logits, out=out)


def draw(
    chosen: torch.Tensor,
    logits: torch.Tensor,
    sampling: RowSampling,
    positions: torch.Tensor,
    kernels: StepKernels,
) -> None:
    """Put a drawn token into each row of `chosen` [rows] whose parameters ask for one.

    positions: [rows], where the tokens that led to `logits` stand. Rows without a token keep none.
    """
    drawn = kernels.sample(logits, sampling, positions + 1)
    torch.where(chosen == NO_TOKEN, chosen, drawn, out=chosen)
