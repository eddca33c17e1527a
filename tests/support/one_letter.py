"""A device that computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.engine.batch import Batch
from server.engine.executor import Executor, Outcome
from server.engine.sampled import Sampled

LETTER = 65  # the token that everybody gets


@dataclass
class OneLetter:
    """An executor that is launched a step ahead, as a device is, and says one letter.

    begin: called at a launch; what it gives is called when the step's tokens are read.
    """

    inner: Executor
    begin: Callable[[], Callable[[], None]]
    lookahead: int = 1

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    @property
    def weight_bytes(self) -> int:
        return self.inner.weight_bytes

    def launch(self, batch: Batch) -> Outcome:
        finish, count = self.begin(), len(batch.sampling)

        def read() -> list[Sampled | None]:
            finish()
            return [Sampled(LETTER)] * count

        return read
