"""Made text-to-SQL rows of three difficulties: `python -m training.evaluating.sql_rows FOLDER`.

They have the columns of Clinton/Text-to-sql-v1, on which the second article trains, and the words
by which it tells easy from hard (`difficulty.py`): more tables to read, and more to say of them.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

Row = dict[str, str]

_TABLES = {
    "pet": ("name", "age", "weight", "color", "breed", "price", "rank"),
    "shop": ("name", "city", "size", "rent", "staff", "year", "score"),
    "farm": ("name", "city", "size", "year", "staff", "cost", "region"),
    "book": ("title", "year", "price", "pages", "genre", "score", "language"),
    "song": ("title", "year", "length", "genre", "score", "label", "rank"),
    "film": ("title", "year", "length", "genre", "score", "cost", "country"),
    "team": ("name", "city", "rank", "year", "score", "color", "coach"),
    "game": ("date", "city", "score", "length", "crowd", "rank", "round"),
    "ship": ("name", "length", "weight", "year", "speed", "color", "port"),
    "train": ("name", "length", "speed", "year", "price", "line", "region"),
    "hotel": ("name", "city", "rooms", "price", "score", "year", "owner"),
    "school": ("name", "city", "size", "year", "staff", "score", "region"),
    "doctor": ("name", "age", "city", "score", "field", "salary", "rank"),
    "nurse": ("name", "age", "city", "score", "ward", "salary", "rank"),
    "player": ("name", "age", "weight", "score", "country", "salary", "rank"),
    "driver": ("name", "age", "city", "score", "country", "salary", "rank"),
}
_TEXT_COLUMNS = frozenset(
    ("name", "title", "color", "breed", "city", "region", "genre", "language", "label", "country",
     "coach", "date", "port", "line", "owner", "field", "ward")
)  # fmt: skip
_TEXTS = ("red", "blue", "north", "south", "Paris", "Rome", "Oslo", "Lima", "Cairo", "Delhi")
_NUMBERS = range(2, 100)
_SIGNS = (("over", ">"), ("under", "<"))
_ROWS = range(2, 10)
_FUNCTIONS = {"average": "AVG", "highest": "MAX", "lowest": "MIN", "total": "SUM"}


@dataclass(frozen=True)
class Schema:
    """Tables in a row, each with the id of the one before it."""

    tables: tuple[str, ...]
    num_columns: int

    @classmethod
    def draw(cls, chance: random.Random, num_tables: int, num_columns: int) -> Schema:
        return cls(tuple(chance.sample(sorted(_TABLES), num_tables)), num_columns)

    def columns(self, table: str) -> tuple[str, ...]:
        return _TABLES[table][: self.num_columns]

    def parent(self, table: str) -> str:
        return self.tables[self.tables.index(table) - 1]

    def text(self) -> str:
        """The CREATE TABLE statements."""
        return "\n".join(self._statement(table) for table in self.tables)

    def _statement(self, table: str) -> str:
        own = [f"{name} {_kind(name)}" for name in self.columns(table)]
        link = [f"{self.parent(table)}_id number"] if table != self.tables[0] else []
        return f"CREATE TABLE {table} ({', '.join(['id number', *link, *own])})"


@dataclass(frozen=True)
class _Query:
    """Draws questions about a schema and their SQL."""

    schema: Schema
    chance: random.Random

    def easy(self) -> tuple[str, str]:
        table = self.schema.tables[0]
        said, sql = self._condition(table)
        wanted = self._column(table)
        question, select = self.chance.choice(
            (
                (f"what is the {wanted} of each {table} whose {said}?", wanted),
                (f"how many rows of {table} are there whose {said}?", "COUNT(*)"),
            )
        )
        return question, f"SELECT {select} FROM {table} WHERE {sql}"

    def medium(self) -> tuple[str, str]:
        child, parent = self._pair()
        said, sql = self._condition(parent, "b.")
        other, other_sql = self._condition(child, "a.")
        wanted = self._column(child)
        return (
            f"what is the {wanted} of each {child} whose {other} and which belongs to a {parent} "
            f"whose {said}?",
            f"SELECT a.{wanted} FROM {child} AS a JOIN {parent} AS b ON a.{parent}_id = b.id "
            f"WHERE {other_sql} AND {sql}",
        )

    def hard(self) -> tuple[str, str]:
        child, parent = self._pair()
        said, sql = self._condition(parent, "b.")
        word, function = self.chance.choice(sorted(_FUNCTIONS.items()))
        number, group = self._column(child, numeric=True), self._column(parent)
        many = self.chance.choice(_ROWS)
        return (
            f"for each {group} of a {parent} whose {said}, what is the {word} {number} of its "
            f"rows of {child}? leave out those with fewer than {many} such rows, and begin with "
            f"the largest {word} {number}.",
            f"SELECT b.{group}, {function}(a.{number}) FROM {child} AS a JOIN {parent} AS b "
            f"ON a.{parent}_id = b.id WHERE {sql} GROUP BY b.{group} "
            f"HAVING COUNT(*) >= {many} ORDER BY {function}(a.{number}) DESC",
        )

    def _pair(self) -> tuple[str, str]:
        child = self.chance.choice(self.schema.tables[1:])
        return child, self.schema.parent(child)

    def _column(self, table: str, *, numeric: bool = False) -> str:
        columns = self.schema.columns(table)
        return self.chance.choice([c for c in columns if not (numeric and c in _TEXT_COLUMNS)])

    def _condition(self, table: str, prefix: str = "") -> tuple[str, str]:
        """In words, and in SQL."""
        column = self._column(table)
        if column in _TEXT_COLUMNS:
            value = self.chance.choice(_TEXTS)
            return f"{column} is {value}", f"{prefix}{column} = '{value}'"
        number, (words, sign) = self.chance.choice(_NUMBERS), self.chance.choice(_SIGNS)
        return f"{column} is {words} {number}", f"{prefix}{column} {sign} {number}"


# Tables and columns to a row: so many that rows have the words of their difficulty.
_SIZES = {"easy": (1, 5), "medium": (3, 7), "hard": (7, 7)}


def make_rows(difficulty: str, count: int, *, seed: int) -> list[Row]:
    """`count` rows of `easy`, `medium` or `hard`, the same ones for a seed, no question twice.

    Raises `ValueError` where there are not so many questions.
    """
    if count > (most := num_questions(difficulty)):
        raise ValueError(f"there are {most:,} different {difficulty} questions, not {count:,}")
    chance = random.Random(f"{difficulty}-{seed}")
    rows: dict[str, Row] = {}
    while len(rows) < count:
        schema = Schema.draw(chance, *_SIZES[difficulty])
        question, sql = getattr(_Query(schema, chance), difficulty)()
        rows[question] = {
            "instruction": question,
            "input": schema.text(),
            "response": sql,
            "source": "made",
        }
    return list(rows.values())


def num_questions(difficulty: str) -> int:
    """How many different ones `_Query` can draw."""
    width = _SIZES[difficulty][1]
    columns = {table: names[:width] for table, names in _TABLES.items()}
    conditions = {table: sum(map(_num_conditions, names)) for table, names in columns.items()}
    if difficulty == "easy":
        return sum(conditions[table] * (len(names) + 1) for table, names in columns.items())
    pairs = permutations(columns, 2)
    if difficulty == "medium":
        return sum(len(columns[a]) * conditions[a] * conditions[b] for a, b in pairs)
    each = len(_FUNCTIONS) * len(_ROWS)
    numbers = {
        table: sum(n not in _TEXT_COLUMNS for n in names) for table, names in columns.items()
    }
    return sum(each * numbers[a] * len(columns[b]) * conditions[b] for a, b in pairs)


def _num_conditions(column: str) -> int:
    return len(_TEXTS) if column in _TEXT_COLUMNS else len(_NUMBERS) * len(_SIGNS)


def write_rows(folder: Path, *, num_train: int, num_heldout: int) -> None:
    """Write `train.jsonl` and `heldout.jsonl`, so many rows of each difficulty in them."""
    folder.mkdir(parents=True, exist_ok=True)
    both = {name: make_rows(name, num_train + num_heldout, seed=1) for name in _SIZES}
    train = [row for rows in both.values() for row in rows[:num_train]]
    _write(folder / "train.jsonl", train)
    _write(folder / "heldout.jsonl", [row for rows in both.values() for row in rows[num_train:]])


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _kind(column: str) -> str:
    return "text" if column in _TEXT_COLUMNS else "number"


def main() -> None:
    """Write the rows into the folder that was named."""
    parser = argparse.ArgumentParser(description="Write made text-to-SQL rows of 3 difficulties.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=64, help="rows of each difficulty")
    parser.add_argument("--heldout", type=int, default=8, help="rows of each difficulty")
    words = parser.parse_args()
    try:
        write_rows(words.folder, num_train=words.train, num_heldout=words.heldout)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
