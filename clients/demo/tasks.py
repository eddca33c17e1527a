"""The demo's two tasks: rows to train on, held-out rows, and a recipe each.

Rows are made by seeded generators, so every machine trains on the same ones. A held-out row asks
about people, places, things and numbers that no training row mentions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
    _make: Callable[..., list[tuple[str, str]]]

    def train_rows(self) -> list[Row]:
        """The rows to learn from."""
        made = self._make(self.num_train_rows, heldout=False)
        return [Row(*pair) for pair in made]

    def heldout_rows(self) -> list[Row]:
        """Rows that training never sees."""
        return [Row(*pair) for pair in self._make(HELDOUT_ROWS, heldout=True)]

    @property
    def recipe(self) -> str:
        """The recipe's YAML, which names the files that `write` makes."""
        return (files(__package__) / "recipes" / f"{self.name}.yaml").read_text(encoding="utf-8")


TASKS: tuple[Task, ...] = (
    Task("sql", "questions about a shop's database become SQL", 824, sql.make_rows),
    Task("orders", "free-text order notes become JSON", 664, extraction.make_rows),
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
