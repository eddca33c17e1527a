"""Where each factor of an adapter lies in its file, and where its slot wants it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

FROM, TO, RANK, LENGTH, IS_EXPAND = range(5)
"""What the columns of the numbers hold."""


@dataclass(frozen=True)
class Pieces:
    """An adapter's factors, one a row.

    numbers: [pieces, 5] int64: the first element in the file, the first in the slot, the rank, the
    features (in for A, out for B), and whether it is a B. scales: [pieces] fp32, what a B is
    multiplied by. longest: elements of the largest; a host integer, for it sizes the grid.
    """

    numbers: torch.Tensor
    scales: torch.Tensor
    longest: int
