"""Rows by difficulty, as seed 001 divides its text-to-SQL rows."""

from __future__ import annotations

import pytest

from training.errors import RecipeError
from training.evaluating.difficulty import BUCKETS, Bucket, bucket_name, groups, parse_buckets
from training.examples import Example


def row(num_words: int) -> Example:
    """A row of that many words in all: two of the answer, the rest asked."""
    asked = " ".join(["word"] * (num_words - 2))
    return Example("here:1", ({"role": "user", "content": asked},), "SELECT 1;")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (9, "outside"),
        (10, "easy"),
        (100, "easy"),
        (101, "medium"),
        (200, "medium"),
        (201, "hard"),
        (800, "hard"),
        (801, "outside"),
    ],
)
def test_the_seeds_buckets(words: int, name: str) -> None:
    assert bucket_name(row(words), BUCKETS) == name


def test_groups_name_rows_in_order_and_skip_empty_buckets() -> None:
    rows = [row(150), row(20), row(5), row(30)]
    assert groups(rows, BUCKETS) == {
        "all": [0, 1, 2, 3],
        "easy": [1, 3],
        "medium": [0],
        "outside": [2],
    }


def test_buckets_are_read_from_the_command_line() -> None:
    assert parse_buckets("short:1-5, long:6-90") == (Bucket("short", 1, 5), Bucket("long", 6, 90))
    for wrong in ("short", "short:1", "all:1-2", ":1-2"):
        with pytest.raises(RecipeError, match="name:LOWEST-HIGHEST"):
            parse_buckets(wrong)
