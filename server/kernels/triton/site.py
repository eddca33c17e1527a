"""Where the factors of one LoRA site lie on the device, whichever slot they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import torch

SHRINK, EXPAND, RANK = range(3)
"""What the columns of a site's table hold."""
MAX_PARTS = 3


@dataclass(frozen=True)
class LoraSite:
    """One projection, or several merged ones (its parts), that adapters change.

    arena: one flat tensor that holds every factor, in the compute dtype.
    table: [slots, parts, 3] int64, the last dimension contiguous: for a slot and a part the offset
    of A in the arena, the offset of B, and the rank; rank 0 leaves the part alone. A is
    [rank, in_features], B (transposed and scaled) is [rank, the part's width], both contiguous, so
    an adapter takes the room of its own ranks and can travel as one blob. Offsets are multiples of
    16 elements wherever `in_features` and the widths are.
    widths: out_features of each part, as they stand side by side in the output.
    max_rank: no rank in the table is higher.
    """

    arena: torch.Tensor
    table: torch.Tensor
    widths: tuple[int, ...]
    max_rank: int

    @property
    def parts(self) -> int:
        return len(self.widths)
