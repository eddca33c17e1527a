"""One row as the model sees it, and what becomes of a row that is too long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .data_settings import TooLong
from .errors import DataError

IGNORED = -100  # the label that torch's cross entropy leaves out

Span = tuple[int, int]  # from, up to


@dataclass(frozen=True)
class Sample:
    """`num_prompt` tokens to read, the rest to learn but for the stretches `passed_over`."""

    input_ids: tuple[int, ...]
    num_prompt: int
    place: str
    passed_over: tuple[Span, ...] = ()

    @classmethod
    def learning(cls, input_ids: tuple[int, ...], spans: Iterable[Span], place: str) -> Sample:
        """A sample of which exactly `spans`, which do not overlap, are learned."""
        ordered = sorted(spans)
        gaps = [(end, start) for (_, end), (start, _) in pairwise(ordered)]
        if ordered[-1][1] < len(input_ids):
            gaps.append((ordered[-1][1], len(input_ids)))
        return cls(input_ids, ordered[0][0], place, tuple(gaps))

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def labels(self) -> tuple[int, ...]:
        """One label for each input id; what is not learned is ignored."""
        labels = [IGNORED] * self.num_prompt + list(self.input_ids[self.num_prompt :])
        for start, end in self.passed_over:
            labels[start:end] = [IGNORED] * (end - start)
        return tuple(labels)

    def without_start(self, count: int) -> Sample:
        """Without its first `count` tokens."""
        moved = ((max(0, start - count), max(0, end - count)) for start, end in self.passed_over)
        return Sample(
            self.input_ids[count:],
            max(0, self.num_prompt - count),
            self.place,
            tuple((start, end) for start, end in moved if end > start),
        )

    def without_end(self, count: int) -> Sample:
        """Without its last `count` tokens."""
        length = len(self) - count
        return Sample(
            self.input_ids[:length],
            min(self.num_prompt, length),
            self.place,
            tuple((start, min(end, length)) for start, end in self.passed_over if start < length),
        )

    @property
    def teaches(self) -> bool:
        """Whether any token of it is learned; the first one has nothing that predicts it."""
        return any(label != IGNORED for label in self.labels[1:])


def fit(samples: Sequence[Sample], limit: int, policy: TooLong) -> tuple[Sample, ...]:
    """Samples of at most `limit` tokens, longer ones dropped or cut as `policy` says.

    A cut row of which nothing is left to learn is dropped. Raises `DataError` when none is left,
    and, with policy `error`, naming every row that is too long.
    """
    kept, problems = [], []
    for sample in samples:
        excess = len(sample) - limit
        if excess <= 0:
            kept.append(sample)
        elif policy == "error":
            problems.append(
                f"{sample.place}: {len(sample)} tokens are more than `train.max_length` {limit}; "
                "raise it, or say in `data.too_long` to drop or cut such rows"
            )
        elif policy != "drop":
            cut = sample.without_start(excess) if policy == "left" else sample.without_end(excess)
            if cut.teaches:
                kept.append(cut)
    if samples and not kept and not problems:
        problems.append(f"no row is left: all are longer than `train.max_length` {limit} tokens")
    if problems:
        raise DataError(problems)
    return tuple(kept)
