"""Several samples behind one another in one row, none of which sees another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .samples import IGNORED, Sample


@dataclass(frozen=True)
class Pack:
    """The samples of one row, in their order."""

    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return sum(map(len, self.samples))


def pack(samples: Sequence[Sample], limit: int) -> tuple[Pack, ...]:
    """Rows of at most `limit` tokens: first fit, longest sample first (Johnson, 1973).

    The result does not depend on the order of samples of one length but for which is which.
    """
    rows: list[list[Sample]] = []
    room: list[int] = []
    for sample in sorted(samples, key=len, reverse=True):
        row = next((index for index, left in enumerate(room) if left >= len(sample)), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(limit)
        rows[row].append(sample)
        room[row] -= len(sample)
    return tuple(Pack(tuple(row)) for row in rows)


@dataclass(frozen=True)
class PackCollator:
    """Rows without an attention mask: positions that begin again at 0 tell samples apart.

    transformers makes a block-diagonal mask of such positions, but only where it gets no mask and
    keeps no cache; a mask of ones would let every sample see those before it.
    """

    pad_token_id: int
    length: int | None = None

    def __call__(self, packs: Sequence[Pack]) -> dict[str, torch.Tensor]:
        """`input_ids`, `position_ids` and `labels`, each [batch, longest pack]."""
        shape = (len(packs), self.length or max(map(len, packs)))
        input_ids = torch.full(shape, self.pad_token_id)
        labels = torch.full(shape, IGNORED)
        # Padding stays at position 0, so that each of its tokens is a sequence of its own.
        position_ids = torch.zeros(shape, dtype=torch.long)
        for row, packed in enumerate(packs):
            start = 0
            for sample in packed.samples:
                place = slice(start, start + len(sample))
                input_ids[row, place] = torch.tensor(sample.input_ids)
                # The first token would be predicted from the end of the sample before.
                labels[row, place] = torch.tensor((IGNORED, *sample.labels[1:]))
                position_ids[row, place] = torch.arange(len(sample))
                start += len(sample)
        return {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}
