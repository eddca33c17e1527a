"""The demo's rows: always the same, sound, and with nothing of the held-out ones in training."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

from clients.demo.pools import HELDOUT, TRAINING
from clients.demo.tasks import TASKS, Task, write
from training.examples import read_examples
from training.reading import read_recipe

SCHEMA = """
CREATE TABLE customers (id INTEGER, name TEXT, city TEXT, age INTEGER);
CREATE TABLE orders (
    id INTEGER, customer_id INTEGER, product TEXT, amount REAL, status TEXT, year INTEGER
);
"""


def by_name(name: str) -> Task:
    return next(task for task in TASKS if task.name == name)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_rows_are_always_the_same_and_never_twice(task: Task) -> None:
    rows = task.train_rows() + task.heldout_rows()
    assert rows == task.train_rows() + task.heldout_rows()
    assert len({row.question for row in rows}) == len(rows)


APART = ("names", "things", "looks", "years", "numbers")


def test_the_pools_share_only_what_they_say() -> None:
    for field in APART:
        trained, heldout = getattr(TRAINING, field), getattr(HELDOUT, field)
        assert not set(trained) & set(heldout)
        assert len(set(trained)) == len(trained) > 3 * len(heldout)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_no_training_row_has_a_heldout_thing_year_or_name(task: Task) -> None:
    questions = [row.question for row in task.train_rows()]
    words = {word for question in questions for word in re.findall(r"\w+", question)}
    for field in ("things", "looks", "years"):
        heldout = {str(value) for value in getattr(HELDOUT, field)}
        assert not words & (heldout | {f"{value}s" for value in heldout})
    assert not any(name in question for name in HELDOUT.names for question in questions)


def test_every_sql_answer_runs() -> None:
    database = sqlite3.connect(":memory:")
    database.executescript(SCHEMA)
    for row in (*by_name("sql").train_rows(), *by_name("sql").heldout_rows()):
        database.execute(row.answer)
    database.close()


def test_every_order_is_compact_json_with_the_note_s_own_words() -> None:
    for row in (*by_name("orders").train_rows(), *by_name("orders").heldout_rows()):
        order = json.loads(row.answer)
        assert list(order) == ["name", "city", "item", "quantity", "day"]
        assert json.dumps(order, separators=(",", ":")) == row.answer
        assert all(str(value) in row.question for value in order.values())


def test_recipes_and_rows_are_what_train_takes(tmp_path: Path) -> None:
    recipes = write(tmp_path)
    assert list(recipes) == [task.name for task in TASKS]
    ranks = set()
    for task in TASKS:
        recipe = read_recipe(recipes[task.name])
        examples = read_examples(recipe.data)
        assert recipe.base == "smollm2-135m"
        assert len(examples.train) + len(examples.validation) == len(task.train_rows())
        assert len(examples.heldout) == len(task.heldout_rows()) == recipe.evaluate.rows
        ranks.add(recipe.lora.r)
    assert len(ranks) == 2  # served in one batch, adapters of different ranks show more
