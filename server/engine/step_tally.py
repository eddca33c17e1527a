"""How many steps were settled, and what was in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from server.engine.batch import Batch

REMEMBERED_BATCHES = 256


class StepTally:
    """Counts since the start, and the newest batches' tokens by adapter label, oldest first."""

    def __init__(self) -> None:
        self.num_steps = self.num_prompt_tokens = self.num_generated_tokens = 0
        self._recent: deque[Mapping[str, int]] = deque(maxlen=REMEMBERED_BATCHES)

    @property
    def recent(self) -> tuple[Mapping[str, int], ...]:
        return tuple(self._recent)

    def count(self, batch: Batch) -> None:
        """Add a batch that was settled."""
        self.num_steps += 1
        self.num_generated_tokens += len(batch.sampling)
        self.num_prompt_tokens += sum(chunk.num_tokens for chunk in batch.prefilling)
        self._recent.append(batch.composition)
