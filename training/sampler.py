"""The order in which rows are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch


class LengthGroupedSampler(torch.utils.data.Sampler[int]):
    """Batches of rows of similar length, in random order, another one each epoch.

    Rows are shuffled, sorted by length within chunks of `CHUNK` batches, and the batches are
    shuffled again. transformers' sampler of the same name leaves the last step out, so that each
    chunk runs from long rows to short ones and training drifts with it.
    """

    CHUNK = 16

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        order = self._shuffled(len(self._lengths))
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
        for index in self._shuffled(len(full)):
            yield from full[index]
        for batch in rest:
            yield from batch

    def _shuffled(self, count: int) -> list[int]:
        order: list[int] = torch.randperm(count, generator=self._generator).tolist()
        return order
