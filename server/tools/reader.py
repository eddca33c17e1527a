"""Calls out of a model's text, as it comes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from server.tools.formats import ARGUMENTS, CLOSING, ToolFormat
from server.tools.json_span import JsonSpan

# An object's beginning as it is written by nearly every model; others are read when they are whole.
_HEAD = re.compile(r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')
_ARGUMENT_KEYS = ("arguments", "parameters")


@dataclass(frozen=True)
class CallDelta:
    """What one call gained: its `name` first and once, then its arguments' JSON piece by piece."""

    index: int
    name: str | None = None
    arguments: str = ""


Piece = str | CallDelta


class CallReader:
    """Splits an answer into text and calls. What looks like a call and is none stays text."""

    def __init__(self, form: ToolFormat) -> None:
        self._form = form
        self._pending = ""  # not read yet, since more of it must come first
        self._is_calling = False
        self._call: _Call | None = None
        self.num_calls = 0

    def push(self, text: str) -> list[Piece]:
        """Take in more of the answer."""
        self._pending += text
        return list(self._read())

    def finish(self) -> list[Piece]:
        """What was held back, at the answer's end."""
        rest, self._pending = self._pending, ""
        if self._call is not None:
            rest = "" if self._call.has_begun else self._form.opening + self._call.text + rest
        return [rest] if rest.strip() or (not self._is_calling and rest) else []

    def _read(self) -> Iterator[Piece]:
        while self._pending:
            before = self._pending, self._is_calling, self._call
            if self._call is not None:
                yield from self._read_call(self._call)
            elif self._is_calling:
                self._read_between()
            else:
                yield from self._read_text()
            if before == (self._pending, self._is_calling, self._call):
                return

    def _read_text(self) -> Iterator[Piece]:
        """Text up to the opening word; an end that may be its beginning is held back."""
        word = self._form.opening
        text, found, rest = self._pending.partition(word)
        if not found:
            held = _overlap(text, word)
            text, rest = text[: len(text) - held], text[len(text) - held :]
        self._pending, self._is_calling = rest, bool(found)
        if text:
            yield text

    def _read_between(self) -> None:
        """Up to the next call, past what stands between two of them."""
        self._pending = self._pending.lstrip(" \n\r\t,[]" if self._lists else " \n\r\t")
        for word in (self._form.opening, CLOSING):
            if self._pending.startswith(word):
                self._pending = self._pending[len(word) :]
                return
        if not self._pending or self._may_begin_a_word():
            return
        name = self._read_name()
        if self._pending.startswith("{"):
            self._call = _Call(self.num_calls, name)
        elif name is None and not self._names:
            self._is_calling = False  # text after all

    def _may_begin_a_word(self) -> bool:
        words = (self._form.opening, CLOSING)
        return any(word.startswith(self._pending) for word in words)

    def _read_name(self) -> str | None:
        """In formats that write it before the arguments: `name[ARGS]`, `name[CALL_ID]id[ARGS]`."""
        if not self._names or ARGUMENTS not in self._pending:
            return None
        head, _, rest = self._pending.partition(ARGUMENTS)
        if not rest.strip():
            return None
        self._pending = rest.lstrip()
        return head.partition("[CALL_ID]")[0].strip()

    def _read_call(self, call: _Call) -> Iterator[Piece]:
        taken = call.span.feed(self._pending)
        text, self._pending = self._pending[:taken], self._pending[taken:]
        pieces = call.push(text)
        if call.has_begun and call.index == self.num_calls:
            self.num_calls += 1
        yield from pieces
        if call.span.is_over:
            self._call = None
            if not call.has_begun:
                yield self._form.opening + call.text

    @property
    def _lists(self) -> bool:
        return self._form.layout == "listed"

    @property
    def _names(self) -> bool:
        return self._form.layout == "named"


class _Call:
    """One call that is being read; `name` if it was written before the object."""

    def __init__(self, index: int, name: str | None) -> None:
        self.index = index
        self.text = ""
        self.span = JsonSpan()
        self.has_begun = False
        self._name = name
        self._arguments: JsonSpan | None = None  # the part of the object that is sent on
        self._at = 0  # of `text`, up to where it is read

    def push(self, text: str) -> list[Piece]:
        self.text += text
        if not self.has_begun:
            self._begin()
        if not self.has_begun:
            return []
        pieces: list[Piece] = []
        if self._name is not None:
            pieces.append(CallDelta(self.index, name=self._name))
            self._name = None
        assert self._arguments is not None
        taken = self._arguments.feed(self.text[self._at :])
        if taken:
            pieces.append(CallDelta(self.index, arguments=self.text[self._at : self._at + taken]))
            self._at += taken
        return pieces

    def _begin(self) -> None:
        """Find the name and where the arguments begin, if so much is there."""
        if self._name is not None:
            self._arguments, self.has_begun = JsonSpan(), True
        elif (head := _HEAD.match(self.text)) and self.text[head.end() :].startswith("{"):
            self._name = json.loads(head[1])
            self._arguments, self._at, self.has_begun = JsonSpan(), head.end(), True
        elif self.span.is_over:
            self._take_whole()

    def _take_whole(self) -> None:
        """An object with its keys in another order, or under other names."""
        try:
            call = json.loads(self.text)
        except ValueError:
            return
        found = next((call[key] for key in _ARGUMENT_KEYS if key in call), None)
        if not isinstance(call.get("name"), str) or not isinstance(found, dict | str):
            return
        self.text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
        self._name = call["name"]
        self._arguments, self._at, self.has_begun = JsonSpan(), 0, True


def _overlap(text: str, word: str) -> int:
    """The longest end of `text` that is a beginning of `word`."""
    lengths = range(min(len(text), len(word) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(word[:length])), 0)
