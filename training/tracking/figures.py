"""A tracker's half of the work that is the same for all: which figures, and when."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

_GROUPS = {"loss": "train", "learning_rate": "train", "grad_norm": "train", "epoch": "train"}


class FigureTracker(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Hands figures on, from the first process only; every `every` steps and at validations."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._has_begun = False

    @abstractmethod
    def begin(self, about: Mapping[str, Any], model: Any) -> None:
        """A run begins; `about` is what Trainer was told."""

    @abstractmethod
    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """What was measured at a step, by names such as `train/loss`."""

    @abstractmethod
    def end(self) -> None:
        """A run that began is over, or has failed."""

    def keep(self, folder: Path) -> None:
        """The adapter is there; most trackers have no place for it."""
        del folder

    def close(self) -> None:
        """Whatever became of the run: nothing more comes."""
        if self._has_begun:
            self._has_begun = False
            self.end()

    def on_train_begin(
        self, args: Any, state: Any, _control: Any, model: Any = None, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            self.begin(args.to_sanitized_dict(), model)
            self._has_begun = True

    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        step, values = int(state.global_step), named(logs or {})
        is_due = step % self._every == 0 or any(name.startswith("eval/") for name in values)
        if state.is_world_process_zero and is_due and values:
            self.figures(step, values)


def named(logs: Mapping[str, Any]) -> dict[str, float]:
    """Trainer's names as `train/…` and `eval/…`, the way trackers group them."""
    values = {name: float(v) for name, v in logs.items() if isinstance(v, int | float)}
    return {_name(name): value for name, value in values.items()}


def _name(name: str) -> str:
    if name.startswith("eval_"):
        return f"eval/{name.removeprefix('eval_')}"
    return f"{_GROUPS.get(name, 'train')}/{name}"
