"""How batches become tokens: at once, or beside the host."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch

from server.engine.batch import Batch
from server.engine.config import ModelConfig
from server.engine.memory import Holes
from server.engine.pooling import take_pools
from server.engine.prompt_scores import take_scores
from server.engine.sampled import Sampled
from server.engine.sampler import Sampler
from server.engine.weights import ModelWeights

Input = TypeVar("Input")
Step = TypeVar("Step", contravariant=True)
LaidOut = TypeVar("LaidOut", covariant=True)

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


class Runner(Protocol[Step]):
    """A model that computes laid out batches."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def weights(self) -> ModelWeights: ...

    def forward(self, step: Step) -> torch.Tensor:
        """Logits [samples, vocab] of the rows that sample."""
        ...

    def final_states(self, start: int, end: int) -> torch.Tensor:
        """[rows, hidden] after the final norm, of the newest step's rows from one to another."""
        ...


class BatchLayout(Protocol[LaidOut]):
    """How batches are laid out for one runner."""

    def build(self, batch: Batch) -> LaidOut: ...


@dataclass(frozen=True)
class DirectExecutor(Generic[Input]):
    """Runs each batch where the host runs, before it is asked for the next."""

    runner: Runner[Input]
    layout: BatchLayout[Input]
    sampler: Sampler
    lookahead: int = 0
    holes: Holes = field(default_factory=Holes)

    @property
    def vocab_size(self) -> int:
        return self.runner.config.vocab_size

    @property
    def weight_bytes(self) -> int:
        return self.runner.weights.nbytes

    def launch(self, batch: Batch) -> Outcome:
        self.holes.look()
        logits = self.runner.forward(self.layout.build(batch))
        if batch.is_pooled:
            take_pools(batch.chunks, self.runner.final_states)
        if batch.is_scored:
            logits = take_scores(logits, batch.chunks)
        sampled = self.sampler.sample(logits, batch.sampling)
        return lambda: sampled
