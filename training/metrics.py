"""`metrics.json`: what a run measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluation import Score
from .progress import Curves

if TYPE_CHECKING:
    from .evaluating.forgetting import Forgetting

METRICS_FILE = "metrics.json"

_HOW = (
    "Greedy answers to held-out rows; right is what equals the expected answer but for outer white "
    "space. `before` is the bare base under this adapter's own hat (same prompt template, system "
    "prompt and stops); `after` is the adapter as saved, in bfloat16, reloaded onto the NF4 base. "
    "Both stop a wrong answer once it is as long as the right one."
)


@dataclass(frozen=True)
class Metrics:
    """Losses, held-out exact match before and after, sizes and times of one run."""

    curves: Curves
    before: Score | None
    after: Score | None
    questions: tuple[str, ...]  # of the held-out rows that were asked
    wanted: tuple[str, ...]
    num_train_rows: int
    num_trainable: int
    seconds: Mapping[str, float]  # by phase
    saved_step: int  # the step that the saved weights are of
    captured: float | None = None  # see `methods.Adapter`
    forgetting: Forgetting | None = None

    @property
    def best(self) -> int | None:
        """The saved step, where it is not the last one."""
        return self.saved_step if self.saved_step != self.curves.train[-1][0] else None

    @property
    def numbers(self) -> dict[str, float]:
        """The measurements that depend on recipe and data alone, and on no clock."""
        numbers = {
            "steps": float(len(self.curves.train)),
            "train_loss": self.curves.train[-1][1],
            "trainable_parameters": float(self.num_trainable),
        }
        if self.curves.validation:
            losses = dict(self.curves.validation)
            numbers["validation_loss"] = losses.get(self.saved_step, self.curves.validation[-1][1])
        if self.best is not None:
            numbers["saved_step"] = float(self.best)
        if self.captured is not None:
            numbers["captured"] = self.captured
        if self.before is not None and self.after is not None:
            numbers["exact_match_before"] = self.before.exact_match
            numbers["exact_match"] = self.after.exact_match
            numbers["heldout_rows"] = float(len(self.questions))
        if self.forgetting is not None:
            numbers["forgetting"] = self.forgetting.rise
        return numbers

    def write(self, folder: Path) -> None:
        """Write `metrics.json`."""
        text = json.dumps(self._document(), indent=1, ensure_ascii=False) + "\n"
        (folder / METRICS_FILE).write_text(text, encoding="utf-8")

    def _document(self) -> dict[str, Any]:
        kept = self.forgetting
        return {
            **self.numbers,
            **({} if kept is None else {"general_text": kept.document()}),
            "train_rows": self.num_train_rows,
            "exact_match_how": _HOW,
            "seconds": {phase: round(value, 1) for phase, value in self.seconds.items()},
            "train_curve": self.curves.train,
            "validation_curve": self.curves.validation,
            "learning_rate_curve": self.curves.learning_rate,
            "heldout": self._rows(),
        }

    def _rows(self) -> list[dict[str, Any]]:
        if self.before is None or self.after is None:
            return []
        columns = (self.questions, self.wanted, self.before.answers, self.after.answers)
        names = ("question", "wanted", "before", "after")
        return [
            dict(zip(names, row, strict=True)) | {"right": right}
            for row, right in zip(zip(*columns, strict=True), self.after.right, strict=True)
        ]
