"""The order in which rows are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch


class LengthGroupedSampler(torch.utils.data.Sampler[int]):
    """Rows in random order, another one each epoch; batches of rows of similar length if `grouped`.

    Rows are shuffled, sorted by length within chunks of `CHUNK` batches, and the batches are
    shuffled again. transformers' sampler of the same name leaves the last step out, so that each
    chunk runs from long rows to short ones and training drifts with it.

    The order depends on `seed` and epoch alone, so that a resumed run goes on in the same one.
    """

    CHUNK = 16

    def __init__(
        self, lengths: Sequence[int], *, batch_size: int, seed: int, grouped: bool = True
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._grouped = grouped
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """accelerate calls this before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(_mixed(self._seed, self._epoch))
        order = _shuffled(len(self._lengths), generator)
        if not self._grouped:
            yield from order
            return
        chunk = self.CHUNK * self._batch_size
        batches = []
        for start in range(0, len(order), chunk):
            rows = sorted(order[start : start + chunk], key=lambda row: self._lengths[row])
            batches += [
                rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)
            ]
        # The batch that is not full must come last: batches are cut from the flat order.
        full = [batch for batch in batches if len(batch) == self._batch_size]
        rest = [batch for batch in batches if len(batch) < self._batch_size]
        for index in _shuffled(len(full), generator):
            yield from full[index]
        for batch in rest:
            yield from batch


def _shuffled(count: int, generator: torch.Generator) -> list[int]:
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def _mixed(seed: int, epoch: int) -> int:
    """Epoch 1 of seed 0 is not epoch 0 of seed 1."""
    return (seed * 1_000_003 + epoch) & 0x7FFF_FFFF_FFFF_FFFF
