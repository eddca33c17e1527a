"""Made text-to-SQL rows are of the difficulty that they are said to be, and their SQL is SQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from training.evaluating.difficulty import BUCKETS, bucket_name
from training.evaluating.sql_rows import make_rows, write_rows
from training.examples import read_examples
from training.reading import read_recipe


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_every_query_runs_on_its_own_tables(difficulty: str) -> None:
    for row in make_rows(difficulty, 60, seed=4):
        database = sqlite3.connect(":memory:")
        database.executescript(row["input"].replace("\n", ";\n"))
        database.execute(row["response"])
        database.close()


def test_rows_are_those_of_the_recipe_in_equal_parts(tmp_path: Path) -> None:
    write_rows(tmp_path, num_train=5, num_heldout=2)
    recipe = read_recipe(
        Path("training/recipes/sql-by-difficulty.yaml"),
        [f"data.train={tmp_path / 'train.jsonl'}", f"data.heldout={tmp_path / 'heldout.jsonl'}"],
    )
    examples = read_examples(recipe.data)  # refuses rows that are in both
    assert [bucket_name(each, BUCKETS) for each in examples.heldout] == [
        "easy", "easy", "medium", "medium", "hard", "hard",
    ]  # fmt: skip
    assert len(examples.train) == 15
