"""A prompt's hidden states as one vector, summed up while its chunks are computed."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch

from server.engine.batch import Chunk
from server.engine.marks import on_host

SMALLEST = 1e-30  # of a norm to divide by


@dataclass(frozen=True)
class ChunkPool:
    """What a chunk adds: the sum of its rows, or the last row of its prompt. state: [hidden] fp64.

    Values in bf16 have 8 bits and the sum has 53, so that it is exact wherever a prompt is cut.
    """

    chunk: Chunk
    state: torch.Tensor

    @classmethod
    def of(cls, chunk: Chunk, hidden: torch.Tensor) -> ChunkPool:
        """hidden: [tokens of the chunk, hidden], after the final norm."""
        if chunk.sequence.request.pooling == "last":
            return cls(chunk, on_host(hidden[-1].double()))
        return cls(chunk, on_host(hidden.sum(0, dtype=torch.float64)))

    def record(self) -> None:
        """Add to the sequence's; once the device is done, in the order of the steps."""
        sequence = self.chunk.sequence
        if sequence.pooled is None or self.chunk.start == 0 or sequence.request.pooling == "last":
            sequence.pooled = self.state.clone()  # of a sequence that was preempted, all anew
        else:
            sequence.pooled += self.state


def take_pools(chunks: Items[Chunk], states: Callable[[int, int], torch.Tensor]) -> None:
    """Record what the chunks of a step add to what is pooled, where the host runs steps.

    states: gives the hidden states of the step's rows from one to another.
    """
    row = 0
    for chunk in chunks:
        if chunk.is_pooled:
            ChunkPool.of(chunk, states(row, row + chunk.num_tokens)).record()
        row += chunk.num_tokens


def unit_vector(pooled: torch.Tensor) -> tuple[float, ...] | None:
    """A sum or a state [hidden] fp64, brought to length 1 in fp32; None if it is not finite."""
    if not bool(pooled.isfinite().all()):
        return None
    vector = pooled / pooled.norm().clamp(min=SMALLEST)
    return tuple(vector.float().tolist())
