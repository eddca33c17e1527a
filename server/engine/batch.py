"""What one step computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from server.engine.sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """Consecutive tokens of one sequence, from `start` on.

    samples: whether it reaches the newest token, whose logits choose the next one. is_scored:
    whether the prompt's own tokens after its rows are to be given their probabilities.
    """

    sequence: Sequence
    start: int
    num_tokens: int
    samples: bool
    is_scored: bool = False

    @classmethod
    def of(cls, sequence: Sequence, budget: int) -> Chunk:
        """As many of the sequence's uncomputed tokens as the budget allows."""
        uncomputed = sequence.num_uncomputed
        count = min(budget, uncomputed)
        samples = count == uncomputed and sequence.request.pooling is None
        start = sequence.num_computed
        return cls(sequence, start, count, samples, sequence.wants_score_after(start))

    @property
    def token_ids(self) -> list[int]:
        return self.sequence.token_ids[self.start : self.start + self.num_tokens]

    @property
    def end(self) -> int:
        return self.start + self.num_tokens

    @property
    def is_pooled(self) -> bool:
        """Whether the hidden states of its rows are what is wanted."""
        return self.sequence.request.pooling is not None

    @property
    def embeds(self) -> bool:
        """Whether it reaches the end of a prompt that is to be embedded."""
        return self.is_pooled and self.end == self.sequence.num_prompt_tokens


@dataclass(frozen=True)
class Batch:
    """Single decoding tokens first, then runs of prompt tokens; each part sorted by slot."""

    decoding: tuple[Chunk, ...]
    prefilling: tuple[Chunk, ...]

    @classmethod
    def of(cls, decoding: list[Chunk], prefilling: list[Chunk]) -> Batch:
        return cls(tuple(sorted(decoding, key=_by_slot)), tuple(sorted(prefilling, key=_by_slot)))

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        return self.decoding + self.prefilling

    @property
    def num_tokens(self) -> int:
        return len(self.decoding) + sum(chunk.num_tokens for chunk in self.prefilling)

    @property
    def sampling(self) -> list[Sequence]:
        """The sequences that get a token from this step, in row order."""
        return [chunk.sequence for chunk in self.chunks if chunk.samples]

    @property
    def is_scored(self) -> bool:
        """Whether any of its chunks is."""
        return any(chunk.is_scored for chunk in self.prefilling)

    @property
    def is_pooled(self) -> bool:
        """Whether any of its chunks is."""
        return any(chunk.is_pooled for chunk in self.prefilling)

    @property
    def composition(self) -> Mapping[str, int]:
        """Tokens by adapter label."""
        counts: Counter[str] = Counter()
        for chunk in self.chunks:
            counts[chunk.sequence.label] += chunk.num_tokens
        return dict(counts)

    def __bool__(self) -> bool:
        return bool(self.decoding or self.prefilling)


def _by_slot(chunk: Chunk) -> int:
    return -1 if chunk.sequence.slot is None else chunk.sequence.slot
