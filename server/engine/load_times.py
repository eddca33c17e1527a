"""How long adapters take to come, counted as a histogram."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds; each bucket holds what took no longer, the last one everything beyond."""


@dataclass(frozen=True)
class LoadTimes:
    """Seconds that one kind of move took, over the life of the process."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)  # by bucket
    total: float = 0.0  # seconds

    def plus(self, seconds: float) -> LoadTimes:
        """The same with one more."""
        counts = list(self.counts)
        counts[bisect_left(BOUNDS, seconds)] += 1
        return LoadTimes(tuple(counts), self.total + seconds)

    @property
    def cumulative(self) -> list[int]:
        """How many took no longer than each of the bounds, then how many there are in all."""
        return list(accumulate(self.counts))
