"""Made text-to-SQL rows are of the difficulty that they are said to be, and their SQL is SQL."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from training.evaluating import sql_rows
from training.evaluating.difficulty import BUCKETS, bucket_name
from training.evaluating.sql_rows import make_rows, num_questions, write_rows
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


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_there_are_as_many_questions_as_can_be_drawn(
    difficulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few tables, so that all of their questions come up, and not one more is ever made."""
    monkeypatch.setattr(sql_rows, "_TABLES", {"pet": ("name", "age"), "shop": ("city", "size")})
    monkeypatch.setattr(sql_rows, "_NUMBERS", range(2, 4))
    monkeypatch.setattr(sql_rows, "_TEXTS", ("red", "Rome"))
    sizes = {"easy": (1, 2), "medium": (2, 2), "hard": (2, 2)}
    monkeypatch.setattr(sql_rows, "_SIZES", sizes)
    most = num_questions(difficulty)
    chance, drawn = random.Random(5), set()
    for _ in range(40 * most):
        query = sql_rows._Query(sql_rows.Schema.draw(chance, *sizes[difficulty]), chance)
        drawn.add(getattr(query, difficulty)()[0])
    assert len(drawn) == most
    assert len(make_rows(difficulty, most, seed=1)) == most
    with pytest.raises(ValueError, match=f"{most:,} different {difficulty} questions"):
        make_rows(difficulty, most + 1, seed=1)


def test_the_command_says_how_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sql_rows", str(tmp_path / "rows"), "--train", "1000000"])
    with pytest.raises(SystemExit):
        sql_rows.main()
    assert "different easy questions, not 1,000,008" in capsys.readouterr().err
