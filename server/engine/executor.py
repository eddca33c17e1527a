"""How batches become tokens: at once, or beside the host."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Protocol

from server.engine.batch import Batch
from server.engine.layout import Layout
from server.engine.runner import MistralRunner
from server.engine.sampler import Sampled, Sampler

Outcome = Callable[[], Rows[Sampled | None]]
"""Waits for a step; what was chosen for each of its `batch.sampling`, in order. None where the
logits were not finite, so that no token could be chosen."""


class Executor(Protocol):
    """Runs batches in the order in which they are launched."""

    @property
    def lookahead(self) -> int:
        """How many steps may be launched beyond one whose outcome has not been read."""
        ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def weight_bytes(self) -> int: ...

    def launch(self, batch: Batch) -> Outcome:
        """Begin a step."""
        ...


@dataclass(frozen=True)
class DirectExecutor:
    """Runs each batch where the host runs, before it is asked for the next."""

    runner: MistralRunner
    layout: Layout
    sampler: Sampler
    lookahead: int = 0

    @property
    def vocab_size(self) -> int:
        return self.runner.config.vocab_size

    @property
    def weight_bytes(self) -> int:
        return self.runner.weights.nbytes

    def launch(self, batch: Batch) -> Outcome:
        logits = self.runner.forward(self.layout.build(batch))
        sampled = self.sampler.sample(logits, batch.sampling)
        return lambda: sampled
