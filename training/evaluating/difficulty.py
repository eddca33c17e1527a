"""How hard a row is, by how many words it has: seed 001's measure for text-to-SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.errors import RecipeError
from training.examples import Example

EVERYTHING = "all"
OUTSIDE = "outside"  # rows that no bucket takes


@dataclass(frozen=True)
class Bucket:
    """Rows of `lowest` to `highest` words, both included."""

    name: str
    lowest: int
    highest: int

    def holds(self, num_words: int) -> bool:
        return self.lowest <= num_words <= self.highest


# The seed lets "hard" begin at 200, where "medium" ends: the first bucket that holds a row has it.
BUCKETS = (Bucket("easy", 10, 100), Bucket("medium", 101, 200), Bucket("hard", 200, 800))


def num_words(example: Example) -> int:
    """Words of the whole row: everything asked, and the answer."""
    texts = [*(message["content"] for message in example.prompt), example.answer]
    return sum(len(text.split()) for text in texts)


def bucket_name(example: Example, buckets: Sequence[Bucket]) -> str:
    """The first bucket that holds the row, or `OUTSIDE`."""
    words = num_words(example)
    return next((bucket.name for bucket in buckets if bucket.holds(words)), OUTSIDE)


def groups(examples: Sequence[Example], buckets: Sequence[Bucket]) -> dict[str, list[int]]:
    """Row indices by bucket, in the buckets' order, after all rows under `EVERYTHING`.

    Buckets without rows are left out.
    """
    found: dict[str, list[int]] = {EVERYTHING: list(range(len(examples)))}
    names = [bucket_name(example, buckets) for example in examples]
    for name in (*(bucket.name for bucket in buckets), OUTSIDE):
        rows = [row for row, own in enumerate(names) if own == name]
        if rows:
            found[name] = rows
    return found


def parse_buckets(text: str) -> tuple[Bucket, ...]:
    """Read `easy:10-100,medium:101-200`; raises `RecipeError`."""
    return tuple(_parse(part.strip()) for part in text.split(",") if part.strip())


def _parse(text: str) -> Bucket:
    name, _, span = text.partition(":")
    lowest, _, highest = span.partition("-")
    reserved: Iterable[str] = (EVERYTHING, OUTSIDE, "")
    if not (lowest.isdecimal() and highest.isdecimal()) or name in reserved:
        raise RecipeError([f"--buckets {text}: write name:LOWEST-HIGHEST, such as easy:10-100"])
    return Bucket(name, int(lowest), int(highest))
