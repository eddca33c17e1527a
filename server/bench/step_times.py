"""What the host takes for a step, and whether the device had to wait for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from server.engine.batch import Batch
from server.engine.engine import Engine
from server.engine.executor import Executor, Outcome
from server.engine.sampled import Sampled

AT_ONCE = 150e-6  # seconds: who waits less for a step came after it was done


@dataclass
class StepTimes:
    """An executor that notes how long its decode steps of `rows` sequences took the host.

    host: from one step's tokens to the wait for the next one's. launching: of that, the launch.
    waiting: for the device. Seconds.
    """

    inner: Executor
    rows: int
    host: list[float] = field(default_factory=list)
    launching: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    _went_on: float = 0.0

    @property
    def lookahead(self) -> int:
        return self.inner.lookahead

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    @property
    def weight_bytes(self) -> int:
        return self.inner.weight_bytes

    @property
    def late(self) -> float:
        """Share of the steps that were done before the host came to wait for them."""
        return sum(wait < AT_ONCE for wait in self.waiting) / max(1, len(self.waiting))

    def launch(self, batch: Batch) -> Outcome:
        began = time.perf_counter()
        outcome = self.inner.launch(batch)
        took = time.perf_counter() - began
        if len(batch.decoding) < self.rows or batch.prefilling:
            return outcome
        self.launching.append(took)

        def read() -> Sequence[Sampled | None]:
            asked = time.perf_counter()
            if self.waiting:
                self.host.append(asked - self._went_on)
            sampled = outcome()
            self._went_on = time.perf_counter()
            self.waiting.append(self._went_on - asked)
            return sampled

        return read


@contextmanager
def timed_steps(engine: Engine, rows: int) -> Iterator[StepTimes]:
    """Note an engine's decode steps of so many sequences while the context lasts."""
    inner = engine._executor
    engine._executor = times = StepTimes(inner, rows)
    try:
        yield times
    finally:
        engine._executor = inner


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so many of the values, 0 to 1, do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
