"""From rows to conversations that end with the answer to learn, all checked in one pass."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from registry.canonical import digest_file, digest_of
from registry.conversations import BadRow, columns, is_text, read_conversation

from .data import NoRow, Row, read_rows
from .data_settings import DataSettings
from .errors import DataError
from .hub_rows import read_hub_rows
from .sources import HubDataset, Source

Message = Mapping[str, str]


@dataclass(frozen=True)
class Example:
    """A question and its answer. `prompt` is the conversation before the answer.

    It is empty where the row is plain text to learn as it stands. `unlearned` are places in
    `prompt` of assistant's turns that are not to be learned, whatever `data.loss` says.
    """

    place: str
    prompt: tuple[Message, ...]
    answer: str
    unlearned: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Examples:
    """The three parts of a run's data; `digests` are those of what they came from, by name."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    heldout: tuple[Example, ...]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class _Reader:
    """Reads source after source, and gathers what is wrong with any."""

    settings: DataSettings
    problems: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def read(self, sources: Iterable[Source]) -> list[Example]:
        return [example for source in sources for example in self._read_one(source)]

    def _read_one(self, source: Source) -> Iterator[Example]:
        try:
            rows = self._rows(source)
        except DataError as error:
            self.problems.extend(error.problems)
            return
        for row in rows:
            try:
                if isinstance(row, NoRow):
                    raise BadRow(row.reason)
                yield _example(row, self.settings)
            except BadRow as reason:
                self.problems.append(f"{row.place}: {reason}")

    def _rows(self, source: Source) -> Sequence[Row | NoRow]:
        if isinstance(source, HubDataset):
            pinned, found = read_hub_rows(source)
            content = json.dumps([row.fields for row in found], sort_keys=True, default=str)
            self.digests[str(pinned)] = digest_of(content.encode())
            return found
        rows = read_rows(source)
        # Of two files with one name, the second goes by its folder too.
        name = (
            source.name
            if source.name not in self.digests
            else f"{source.parent.name}/{source.name}"
        )
        self.digests[name] = digest_file(source)
        return rows


def read_examples(settings: DataSettings) -> Examples:
    """Read and check every row. Raises `DataError` naming every bad row of every file.

    A held-out question that training also sees is an error: it would measure memory.
    """
    reader = _Reader(settings)
    train, heldout = reader.read(settings.train), reader.read(settings.heldout)
    validation: list[Example] = []
    if isinstance(settings.validation, tuple):
        validation = reader.read(settings.validation)
    problems = [*reader.problems, *_overlaps(train, heldout)]
    if problems:
        raise DataError(problems)
    if not isinstance(settings.validation, tuple):
        train, validation = _split(train, settings)
    return Examples(tuple(train), tuple(validation), tuple(heldout), reader.digests)


def _split(train: list[Example], settings: DataSettings) -> tuple[list[Example], list[Example]]:
    """Keep a seeded random part of the training rows for validation."""
    wanted = settings.validation
    if wanted is None or isinstance(wanted, tuple):
        return train, []
    count = wanted if isinstance(wanted, int) else max(1, round(wanted * len(train)))
    if count >= len(train):
        raise DataError([f"`data.validation` keeps {count} of {len(train)} rows: none would train"])
    order = list(range(len(train)))
    random.Random(settings.seed).shuffle(order)
    kept = set(order[:count])
    return (
        [example for index, example in enumerate(train) if index not in kept],
        [example for index, example in enumerate(train) if index in kept],
    )


def _overlaps(train: Sequence[Example], heldout: Sequence[Example]) -> list[str]:
    seen = {_question(example): example.place for example in train if example.prompt}
    return [
        f"{example.place}: this held-out question is also trained on ({seen[_question(example)]})"
        for example in heldout
        if _question(example) in seen
    ]


def _question(example: Example) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in example.prompt)


def _example(row: Row, settings: DataSettings) -> Example:
    """Read a row as its format says. Raises `BadRow`."""
    if settings.format == "messages":
        found = read_conversation(row.fields)
        *before, last = found.messages
        return Example(row.place, tuple(before), last["content"], found.unlearned)
    if settings.format == "text" and settings.pattern is None:
        return Example(row.place, (), _text(row, settings.text_column))
    makers: dict[str, Callable[[Row], tuple[str, str]]] = {
        "alpaca": _from_alpaca,
        "instruction": lambda r: (
            _text(r, settings.prompt_column),
            _text(r, settings.answer_column),
        ),
        "text": lambda r: _found(_text(r, settings.text_column), settings.pattern or ""),
        "template": lambda r: (_fill(settings.prompt or "", r), _fill(settings.answer or "", r)),
    }
    prompt, answer = makers[settings.format](row)
    if not answer.strip():
        raise BadRow("the answer is empty")
    return Example(row.place, ({"role": "user", "content": prompt},), answer)


def _from_alpaca(row: Row) -> tuple[str, str]:
    """Stanford Alpaca's columns: the input, where there is one, follows the instruction."""
    instruction = _text(row, "instruction")
    context = row.fields.get("input") or ""
    if context and not (isinstance(context, str) and context.isspace()):
        return f"{instruction}\n\n{_text(row, 'input')}", _text(row, "output")
    return instruction, _text(row, "output")


def _found(text: str, pattern: str) -> tuple[str, str]:
    found = re.fullmatch(pattern, text)
    if found is None:
        raise BadRow(f"`data.pattern` does not match {text[:60]!r}…")
    for group in ("prompt", "answer"):
        if found[group] is None:  # in a part of the pattern that may be missing
            raise BadRow(f"`data.pattern` finds no `{group}` in {text[:60]!r}…")
    return found["prompt"], found["answer"]


def _text(row: Row, column: str) -> str:
    if column not in row.fields:
        raise BadRow(f"there is no column `{column}`, found {columns(row.fields)}")
    value = row.fields[column]
    if value is None:
        raise BadRow(f"`{column}` is null")
    if not isinstance(value, str):
        raise BadRow(f"`{column}` must be text, not {type(value).__name__}")
    if not value.strip():
        raise BadRow(f"`{column}` is empty")
    if not is_text(value):
        raise BadRow(f"`{column}` has half of a surrogate pair, which is no text")
    return value


def _fill(template: str, row: Row) -> str:
    """Put columns into {braces}; `{{` is a brace. Attributes and indices are not reached into."""
    parts = []
    try:
        for literal, column, spec, conversion in string.Formatter().parse(template):
            parts.append(literal)
            if column is not None:
                if spec or conversion:
                    raise BadRow(f"`{{{column}}}` may hold only a column's name")
                parts.append(_text(row, column))
    except ValueError as error:
        raise BadRow(f"the template {template!r} cannot be read: {error}") from error
    return "".join(parts)
