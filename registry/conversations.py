"""Rows to learn from, in OpenAI's format: a conversation that ends with the answer.

Servers check an upload by it and training reads by it, so that both refuse the same rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can write one alone; no encoding can
_ROLES = ("system", "user", "assistant")
_MOST_NAMED = 20  # of the rows that are wrong, and of a row's columns
_MOST_SHOWN = 60  # characters


class BadRow(Exception):
    """Why a row is none."""


@dataclass(frozen=True)
class Conversation:
    """The last message is the assistant's: it is what is learned.

    `unlearned` are places of the assistant's earlier messages with `weight` 0: read, not learned.
    """

    messages: tuple[Mapping[str, str], ...]
    unlearned: frozenset[int] = frozenset()


def read_conversation(fields: Mapping[str, Any]) -> Conversation:
    """A row's `messages`; raises `BadRow`."""
    value = fields.get("messages")
    if not isinstance(value, list) or not value:
        raise BadRow(f"expected a list `messages`, found {columns(fields)}")
    messages = tuple(_message(item, index) for index, item in enumerate(value))
    if messages[-1]["role"] != "assistant":
        raise BadRow("the last message must be the assistant's: it is what is learned")
    if not any(message["role"] == "user" for message in messages[:-1]):
        raise BadRow("there is no user message before the answer")
    if not messages[-1]["content"].strip():
        raise BadRow("the answer is empty")
    weights = [item.get("weight") for item in value]
    if weights[-1] == 0:
        raise BadRow("the last message has weight 0: there is nothing to learn")
    unlearned = frozenset(index for index, weight in enumerate(weights) if weight == 0)
    return Conversation(messages, unlearned)


def find_bad_rows(lines: Iterable[bytes]) -> list[str]:
    """What is wrong with a file of such rows, "line 3: …", at most so many that help; else []."""
    problems: list[str] = []
    num_rows = num_bad = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        num_rows += 1
        try:
            read_conversation(_object(line, is_first=number == 1))
        except BadRow as reason:
            num_bad += 1
            if num_bad <= _MOST_NAMED:
                problems.append(f"line {number}: {reason}")
    if num_bad > _MOST_NAMED:
        problems.append(f"… and {num_bad - _MOST_NAMED} more")
    return problems if num_rows else ["holds no rows"]


def columns(fields: Mapping[str, Any]) -> str:
    """The names of a row's columns, for a message."""
    names = ", ".join(f"`{_shown(name)}`" for name in islice(fields, _MOST_NAMED))
    return (f"{names}, …" if len(fields) > _MOST_NAMED else names) or "no columns"


def is_text(value: str) -> bool:
    """Whether it can be encoded: no half of a surrogate pair stands alone in it."""
    return _SURROGATE.search(value) is None


def _shown(text: str) -> str:
    """So much of a stranger's text that a message stays one, and can be sent."""
    short = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
    return short.encode("utf-8", "backslashreplace").decode()


def _object(line: bytes, *, is_first: bool) -> dict[str, Any]:
    try:
        # A byte order mark may stand before the first.
        value = json.loads(line.decode("utf-8-sig" if is_first else "utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadRow(f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadRow("expected an object")
    return value


def _message(item: Any, index: int) -> dict[str, str]:
    if not isinstance(item, dict):
        raise BadRow(f"messages[{index}] must be an object with `role` and `content`")
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        given = _shown(repr(role))
        raise BadRow(f"messages[{index}].role must be one of {', '.join(_ROLES)}, not {given}")
    if isinstance(content, list):
        content = _joined(content, index)
    if not isinstance(content, str):
        raise BadRow(f"messages[{index}].content must be text, not {type(content).__name__}")
    if not is_text(content):
        raise BadRow(f"messages[{index}].content has half of a surrogate pair, which is no text")
    if item.get("weight") not in (None, 0, 1):
        raise BadRow(f"messages[{index}].weight must be 0 or 1")
    if item.get("tool_calls") or item.get("function_call"):
        raise BadRow(f"messages[{index}] calls a tool, which cannot be trained on")
    return {"role": role, "content": content}


def _joined(parts: list[Any], index: int) -> str:
    """Content in parts, all of which must be text."""
    texts = [p.get("text") for p in parts if isinstance(p, dict) and p.get("type") == "text"]
    if len(texts) != len(parts) or not all(isinstance(text, str) for text in texts):
        raise BadRow(f"messages[{index}].content has a part that is no text")
    return "".join(map(str, texts))
