"""From rows to conversations that end with the answer to learn, all checked in one pass."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .data import Row, read_rows
from .errors import DataError
from .recipe import DataSettings

Message = Mapping[str, str]

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Example:
    """A question and its answer. `prompt` is the conversation before the answer."""

    place: str
    prompt: tuple[Message, ...]
    answer: str


@dataclass(frozen=True)
class Examples:
    """The three parts of a run's data; `files` are the files they came from."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    heldout: tuple[Example, ...]
    files: tuple[Path, ...]


class _BadRow(Exception):
    """Why a row is no example."""


def read_examples(settings: DataSettings) -> Examples:
    """Read and check every row. Raises `DataError` naming every bad row of every file.

    A held-out question that training also sees is an error: it would measure memory.
    """
    problems: list[str] = []

    def read(paths: Iterable[Path]) -> list[Example]:
        return [example for path in paths for example in _read_file(path, settings, problems)]

    train, heldout = read(settings.train), read(settings.heldout)
    files = [*settings.train, *settings.heldout]
    validation: list[Example] = []
    if isinstance(settings.validation, tuple):
        validation = read(settings.validation)
        files += settings.validation
    problems += _overlaps(train, heldout)
    if problems:
        raise DataError(problems)
    if not isinstance(settings.validation, tuple):
        train, validation = _split(train, settings)
    return Examples(tuple(train), tuple(validation), tuple(heldout), tuple(dict.fromkeys(files)))


def _read_file(path: Path, settings: DataSettings, problems: list[str]) -> list[Example]:
    try:
        rows = read_rows(path)
    except DataError as error:
        problems += error.problems
        return []
    examples = []
    for row in rows:
        try:
            examples.append(_example(row, settings))
        except _BadRow as reason:
            problems.append(f"{row.place}: {reason}")
    return examples


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
    seen = {_question(example): example.place for example in train}
    return [
        f"{example.place}: this held-out question is also trained on ({seen[_question(example)]})"
        for example in heldout
        if _question(example) in seen
    ]


def _question(example: Example) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in example.prompt)


def _example(row: Row, settings: DataSettings) -> Example:
    """Read a row as its format says. Raises `_BadRow`."""
    if settings.format == "messages":
        return _from_messages(row)
    makers: dict[str, Callable[[Row], tuple[str, str]]] = {
        "alpaca": _from_alpaca,
        "instruction": lambda r: (
            _text(r, settings.prompt_column),
            _text(r, settings.answer_column),
        ),
        "template": lambda r: (_fill(settings.prompt or "", r), _fill(settings.answer or "", r)),
    }
    prompt, answer = makers[settings.format](row)
    if not answer.strip():
        raise _BadRow("the answer is empty")
    return Example(row.place, ({"role": "user", "content": prompt},), answer)


def _from_alpaca(row: Row) -> tuple[str, str]:
    """Stanford Alpaca's columns: the input, where there is one, follows the instruction."""
    instruction = _text(row, "instruction")
    context = row.fields.get("input") or ""
    if not isinstance(context, str):
        raise _BadRow(f"`input` must be text, not {type(context).__name__}")
    prompt = f"{instruction}\n\n{context}" if context.strip() else instruction
    return prompt, _text(row, "output")


def _from_messages(row: Row) -> Example:
    value = row.fields.get("messages")
    if not isinstance(value, list) or not value:
        raise _BadRow(f"expected a list `messages`, found {_columns(row)}")
    messages = [_message(item, index) for index, item in enumerate(value)]
    if messages[-1]["role"] != "assistant":
        raise _BadRow("the last message must be the assistant's: it is what is learned")
    if not any(message["role"] == "user" for message in messages[:-1]):
        raise _BadRow("there is no user message before the answer")
    if not messages[-1]["content"].strip():
        raise _BadRow("the answer is empty")
    return Example(row.place, tuple(messages[:-1]), messages[-1]["content"])


def _message(item: Any, index: int) -> dict[str, str]:
    if not isinstance(item, dict):
        raise _BadRow(f"messages[{index}] must be an object with `role` and `content`")
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise _BadRow(f"messages[{index}].role must be one of {', '.join(_ROLES)}, not {role!r}")
    if not isinstance(content, str):
        raise _BadRow(f"messages[{index}].content must be text, not {type(content).__name__}")
    return {"role": role, "content": content}


def _text(row: Row, column: str) -> str:
    value = row.fields.get(column)
    if value is None:
        raise _BadRow(f"there is no column `{column}`, found {_columns(row)}")
    if not isinstance(value, str):
        raise _BadRow(f"`{column}` must be text, not {type(value).__name__}")
    if not value.strip():
        raise _BadRow(f"`{column}` is empty")
    return value


def _fill(template: str, row: Row) -> str:
    """Put columns into {braces}; `{{` is a brace. Attributes and indices are not reached into."""
    parts = []
    try:
        for literal, column, spec, conversion in string.Formatter().parse(template):
            parts.append(literal)
            if column is not None:
                if spec or conversion:
                    raise _BadRow(f"`{{{column}}}` may hold only a column's name")
                parts.append(_text(row, column))
    except ValueError as error:
        raise _BadRow(f"the template {template!r} cannot be read: {error}") from error
    return "".join(parts)


def _columns(row: Row) -> str:
    return ", ".join(f"`{name}`" for name in row.fields) or "no columns"
