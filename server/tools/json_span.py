"""Where a JSON object ends in text that comes in pieces."""

from __future__ import annotations


class JsonSpan:
    """Counts brackets outside strings, from an object's first character on."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self.is_over = False

    def feed(self, text: str) -> int:
        """How many characters of `text` belong to the object."""
        for at, character in enumerate(text):
            if self.is_over:
                return at
            self._take(character)
        return len(text)

    def _take(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif self._in_string:
            self._is_escaped = character == "\\"
            self._in_string = character != '"'
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            self.is_over = self._depth == 0
