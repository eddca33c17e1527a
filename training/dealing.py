"""A step's rows dealt out among the processes that train it, so that none waits for another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch


class DealtSampler(torch.utils.data.Sampler[int]):
    """The rows of `order` step by step, each step's dealt out to `processes` by their lengths.

    A step has `per_process` rows for each process, which accelerate cuts from the order one
    process after another. Where rows are not padded, a process has as much to do as its rows have
    tokens, and all wait for the one that has most. Which process computes a row changes nothing
    else: the loss is summed over the step's answer tokens and divided by all of them.
    """

    def __init__(
        self,
        order: torch.utils.data.Sampler[int],
        lengths: Sequence[int],
        *,
        per_process: int,
        processes: int,
    ) -> None:
        self._order = order
        self._lengths = lengths
        self._per_step = per_process * processes
        self._processes = processes

    def set_epoch(self, epoch: int) -> None:
        """accelerate calls this before each epoch."""
        if hasattr(self._order, "set_epoch"):
            self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        order = list(self._order)
        for start in range(0, len(order), self._per_step):
            rows = order[start : start + self._per_step]
            # An epoch's last step may be short: accelerate fills it up as it likes.
            yield from self._dealt(rows) if len(rows) == self._per_step else rows

    def _dealt(self, rows: Sequence[int]) -> Iterator[int]:
        """Each process's rows in turn: longest first, to whoever has the fewest tokens so far."""
        hands: list[list[int]] = [[] for _ in range(self._processes)]
        tokens = [0] * self._processes
        for row in sorted(rows, key=lambda each: -self._lengths[each]):
            open_hands = [n for n, hand in enumerate(hands) if len(hand) < len(rows) // len(hands)]
            chosen = min(open_hands, key=tokens.__getitem__)
            hands[chosen].append(row)
            tokens[chosen] += self._lengths[row]
        for hand in hands:
            yield from hand
