"""From rows to conversations that end with the answer to learn, all checked in one pass."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.canonical import digest_file, digest_of

from .data import Row, read_rows
from .data_settings import DataSettings
from .errors import DataError
from .hub_rows import read_hub_rows
from .sources import HubDataset, Source

Message = Mapping[str, str]

_ROLES = ("system", "user", "assistant")


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


class _BadRow(Exception):
    """Why a row is no example."""


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
                yield _example(row, self.settings)
            except _BadRow as reason:
                self.problems.append(f"{row.place}: {reason}")

    def _rows(self, source: Source) -> list[Row]:
        if isinstance(source, HubDataset):
            pinned, rows = read_hub_rows(source)
            content = json.dumps([row.fields for row in rows], sort_keys=True, default=str)
            self.digests[str(pinned)] = digest_of(content.encode())
            return rows
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
    """Read a row as its format says. Raises `_BadRow`."""
    if settings.format == "messages":
        return _from_messages(row)
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


def _found(text: str, pattern: str) -> tuple[str, str]:
    found = re.fullmatch(pattern, text)
    if found is None:
        raise _BadRow(f"`data.pattern` does not match {text[:60]!r}…")
    return found["prompt"], found["answer"]


def _from_messages(row: Row) -> Example:
    """OpenAI's format; an assistant's message with `weight` 0 is read and not learned."""
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
    weights = [item.get("weight") for item in value]
    if weights[-1] == 0:
        raise _BadRow("the last message has weight 0: there is nothing to learn")
    unlearned = frozenset(index for index, weight in enumerate(weights) if weight == 0)
    return Example(row.place, tuple(messages[:-1]), messages[-1]["content"], unlearned)


def _message(item: Any, index: int) -> dict[str, str]:
    if not isinstance(item, dict):
        raise _BadRow(f"messages[{index}] must be an object with `role` and `content`")
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise _BadRow(f"messages[{index}].role must be one of {', '.join(_ROLES)}, not {role!r}")
    if isinstance(content, list):
        content = _joined(content, index)
    if not isinstance(content, str):
        raise _BadRow(f"messages[{index}].content must be text, not {type(content).__name__}")
    if item.get("weight") not in (None, 0, 1):
        raise _BadRow(f"messages[{index}].weight must be 0 or 1")
    if item.get("tool_calls") or item.get("function_call"):
        raise _BadRow(f"messages[{index}] calls a tool, which cannot be trained on")
    return {"role": role, "content": content}


def _joined(parts: list[Any], index: int) -> str:
    """Content in parts, all of which must be text."""
    texts = [p.get("text") for p in parts if isinstance(p, dict) and p.get("type") == "text"]
    if len(texts) != len(parts) or not all(isinstance(text, str) for text in texts):
        raise _BadRow(f"messages[{index}].content has a part that is no text")
    return "".join(map(str, texts))


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
