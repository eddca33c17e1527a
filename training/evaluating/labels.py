"""Answers as labels: accuracy, precision, recall and F1, as of a classifier (seed 003)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_LABELS = 20


@dataclass(frozen=True)
class LabelScore:
    """One label: of those said, the right share; of those wanted, the found share."""

    precision: float
    recall: float
    f1: float
    support: int  # how often it was wanted


@dataclass(frozen=True)
class Classification:
    """Accuracy over all rows, and the rest as plain means over the labels (macro averages)."""

    accuracy: float
    labels: dict[str, LabelScore]

    @property
    def precision(self) -> float:
        return self._mean([score.precision for score in self.labels.values()])

    @property
    def recall(self) -> float:
        return self._mean([score.recall for score in self.labels.values()])

    @property
    def f1(self) -> float:
        return self._mean([score.f1 for score in self.labels.values()])

    @staticmethod
    def _mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)


def find_labels(wanted: Sequence[str]) -> tuple[str, ...] | None:
    """The labels, if the wanted answers look like some: few, and each used more than once."""
    distinct = sorted({text.strip() for text in wanted})
    few = len(distinct) <= min(MOST_LABELS, len(wanted) // 2)
    return tuple(distinct) if few and len(distinct) > 1 else None


def classify(
    answers: Sequence[str], wanted: Sequence[str], labels: Sequence[str]
) -> Classification:
    """Score answers against wanted ones, both taken without outer white space.

    An answer that is no label is wrong and counts against the recall of what was wanted. A label
    that was never said has precision 0, one never wanted recall 0 (scikit-learn's zero_division=0).
    """
    pairs = [(a.strip(), w.strip()) for a, w in zip(answers, wanted, strict=True)]
    right = sum(answer == want for answer, want in pairs)
    return Classification(
        accuracy=right / len(pairs), labels={label: _score(label, pairs) for label in labels}
    )


def _score(label: str, pairs: Sequence[tuple[str, str]]) -> LabelScore:
    said = sum(answer == label for answer, _ in pairs)
    support = sum(want == label for _, want in pairs)
    hits = sum(answer == want == label for answer, want in pairs)
    return LabelScore(
        precision=_ratio(hits, said),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, said + support),
        support=support,
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
