"""What one side, the bare base or the adapter, scored on some rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.examples import Example

from .labels import Classification, classify, find_labels
from .likelihood import Likelihood, total
from .words import bleu, exact_match


@dataclass(frozen=True)
class Side:
    """What one side did with every row, in the rows' order."""

    answers: tuple[str, ...]
    likelihoods: tuple[Likelihood, ...]


@dataclass(frozen=True)
class Scores:
    """Scores over some rows. Loss is in nats an answer token, BLEU 0 to 100, shares 0 to 1."""

    loss: float
    perplexity: float
    token_accuracy: float
    exact_match: float
    bleu: float
    classification: Classification | None = None

    @property
    def numbers(self) -> dict[str, float]:
        """Everything that is a finite number, by name."""
        values = {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "token_accuracy": self.token_accuracy,
            "exact_match": self.exact_match,
            "bleu": self.bleu,
        }
        if self.classification is not None:
            for name in ("accuracy", "precision", "recall", "f1"):
                values[name] = getattr(self.classification, name)
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def document(self) -> dict[str, Any]:
        """For JSON: the numbers, and each label's own where answers are labels."""
        if self.classification is None:
            return dict(self.numbers)
        labels = {name: asdict(score) for name, score in self.classification.labels.items()}
        return {**self.numbers, "labels": labels}


@dataclass(frozen=True)
class Group:
    """Some rows (all, or those of one difficulty), and what both sides scored on them."""

    name: str
    num_rows: int
    base: Scores
    adapter: Scores


def score_group(
    name: str, rows: Sequence[int], examples: Sequence[Example], base: Side, adapter: Side
) -> Group:
    """Score both sides on the same rows; they are labels only where all rows together are."""
    wanted = [example.answer for example in examples]
    labels = find_labels(wanted)
    return Group(
        name,
        len(rows),
        base=_score(rows, wanted, base, labels),
        adapter=_score(rows, wanted, adapter, labels),
    )


def _score(
    rows: Sequence[int], all_wanted: Sequence[str], side: Side, labels: Sequence[str] | None
) -> Scores:
    likelihood = total(side.likelihoods[row] for row in rows)
    answers, wanted = [side.answers[row] for row in rows], [all_wanted[row] for row in rows]
    return Scores(
        loss=likelihood.loss,
        perplexity=likelihood.perplexity,
        token_accuracy=likelihood.accuracy,
        exact_match=exact_match(answers, wanted),
        bleu=bleu(answers, wanted),
        classification=None if labels is None else classify(answers, wanted, labels),
    )
