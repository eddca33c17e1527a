"""What adapters change in a product, short of its last factor, for the next kernel to add."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from server.kernels.triton.site import LoraSite

RANK_STEP = 16  # ranks multiplied at once, the least that tensor cores take


@dataclass(frozen=True)
class LoraDelta:
    """A product's `A(x)`, which whoever reads the product multiplies by B and adds.

    partial: [splits, parts, rows, ranks] fp32; its sum over splits is A(x), to be rounded to the
    compute dtype. Only rows with an adapter are written. row_slots: [rows] int32, each row's slot,
    -1 for none. site: where B lies.
    """

    partial: torch.Tensor
    row_slots: torch.Tensor
    site: LoraSite
