"""Dropout that is drawn again in the backward pass instead of being kept.

A mask takes a byte for each input of each adapted layer: for Mistral-7B 1.2 MB a token, as much as
a third of everything else that is kept.
"""

from __future__ import annotations

import torch

_SEEDS = 2**31 - 1


def draw_seed() -> int:
    """A seed from torch's generator, so that runs repeat and checkpointed layers draw the same."""
    return int(torch.randint(_SEEDS, ()).item())


def dropped(x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """`x` with a share `p` of its elements at 0 and the others divided by 1 − p."""
    if x.is_cuda:
        from .kernels.dropout import dropped as on_device

        result: torch.Tensor = on_device(x, p, seed)
        return result
    return x * _kept(x, p, seed) / (1 - p)


def add_dropped(total: torch.Tensor, x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """`total` plus `dropped(x)`, in place."""
    if x.is_cuda:
        from .kernels.dropout import add_dropped as on_device

        result: torch.Tensor = on_device(total, x, p, seed)
        return result
    return total.add_(x * _kept(x, p, seed) / (1 - p))


def _kept(x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    drawn = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))
    return drawn >= p
