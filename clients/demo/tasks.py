"""The demo's two tasks: rows to train on, held-out rows, and a recipe each.

Rows are made by seeded generators, so every machine trains on the same ones. Held-out rows name
things, years, numbers and full names that no training row has, and new combinations of the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from . import extraction, sql

HELDOUT_ROWS = 32


@dataclass(frozen=True)
class Row:
    """A question and the one right answer."""

    question: str
    answer: str

    def to_json(self) -> str:
        """The row as one line of JSONL in OpenAI's messages format."""
        messages = [
            {"role": "user", "content": self.question},
            {"role": "assistant", "content": self.answer},
        ]
        return json.dumps({"messages": messages}, ensure_ascii=False)


@dataclass(frozen=True)
class Task:
    """Something the bare base cannot do, and what it takes to teach it."""

    name: str  # of the adapter, and of the recipe and row files
    description: str
    num_train_rows: int
    _train: Callable[[int], list[tuple[str, str]]]
    _heldout: Callable[[int, Collection[str]], list[tuple[str, str]]]

    def train_rows(self) -> list[Row]:
        """The rows to learn from."""
        return [Row(*pair) for pair in self._train(self.num_train_rows)]

    def heldout_rows(self) -> list[Row]:
        """Rows that training never sees."""
        asked = {row.question for row in self.train_rows()}
        return [Row(*pair) for pair in self._heldout(HELDOUT_ROWS, asked)]

    @property
    def recipe(self) -> str:
        """The recipe's YAML, which names the files that `write` makes."""
        return (files(__package__) / "recipes" / f"{self.name}.yaml").read_text(encoding="utf-8")


TASKS: tuple[Task, ...] = (
    Task(
        "sql", "questions about a shop's database become SQL", 744, sql.train_rows, sql.heldout_rows
    ),
    Task(
        "orders",
        "free-text order notes become JSON",
        600,
        extraction.train_rows,
        extraction.heldout_rows,
    ),
)


def write(folder: Path) -> dict[str, Path]:
    """Write rows and recipes into `folder`; returns the recipe file of each task by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    recipes = {}
    for task in TASKS:
        _write_rows(folder / f"{task.name}-train.jsonl", task.train_rows())
        _write_rows(folder / f"{task.name}-heldout.jsonl", task.heldout_rows())
        recipes[task.name] = folder / f"{task.name}.yaml"
        recipes[task.name].write_text(task.recipe, encoding="utf-8")
    return recipes


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(f"{row.to_json()}\n" for row in rows), encoding="utf-8")
