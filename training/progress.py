"""What a person sees while a run goes on: phases, and a bar with step, loss, rate and time left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from .memory_use import peak_memory


@dataclass
class Curves:
    """Losses by step, as they come in."""

    train: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    learning_rate: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Progressing:
    """Prints to `console`; where that is no terminal, now and then a line instead of a bar."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    _lines: int = 10  # how many lines a training makes where there is no bar

    def say(self, text: str) -> None:
        """One line of its own."""
        self.console.print(f"[dim]·[/dim] {text}", highlight=False)

    def warn(self, text: str) -> None:
        """One line that should not be missed."""
        self.console.print(f"[yellow]! {text}[/yellow]", highlight=False)

    @contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        """Say what begins, and keep how long it took."""
        self.say(text)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start

    @contextmanager
    def training(self, total: int) -> Iterator[TrainingBar]:
        """A bar of `total` steps, taken down when the body ends or fails."""
        progress = Progress(
            TextColumn("  step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("val {task.fields[validation]}"),
            TextColumn("lr {task.fields[rate]:.1e}"),
            TextColumn("{task.fields[pace]:,.0f} tok/s"),
            TextColumn("{task.fields[memory]:.1f} GB"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        with progress:
            nothing: dict[str, Any] = {"loss": math.nan, "validation": "–", "rate": 0.0}
            task = progress.add_task("", total=total, pace=0.0, memory=0.0, **nothing)
            yield TrainingBar(self, progress, task, total)


@dataclass
class TrainingBar:
    """The bar of one run; `update` after every step."""

    _owner: Progressing
    _progress: Progress
    _task: TaskID
    _total: int
    _began: float = field(default_factory=time.perf_counter)
    _validation: str = "–"

    def update(self, step: int, loss: float, rate: float, pace: float) -> None:
        """Step `step` is done, at `pace` tokens a second so far."""
        memory = peak_memory() / 1e9
        self._progress.update(
            self._task, completed=step, loss=loss, rate=rate, pace=pace, memory=memory
        )
        every = max(1, self._total // self._owner._lines)
        if not self._owner.console.is_terminal and (step % every == 0 or step == self._total):
            left = (time.perf_counter() - self._began) / step * (self._total - step)
            self._owner.console.print(
                f"  step {step}/{self._total}  loss {loss:.3f}  val {self._validation}  "
                f"lr {rate:.1e}  {pace:,.0f} tok/s  {memory:.1f} GB  {left:.0f} s left",
                highlight=False,
            )

    def validated(self, loss: float) -> None:
        """A validation pass has ended."""
        self._validation = f"{loss:.3f}"
        fields: dict[str, Any] = {"validation": self._validation}
        self._progress.update(self._task, **fields)
