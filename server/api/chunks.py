"""Events of streams in the shape that chats and completions share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

DONE = b"data: [DONE]\n\n"
# JSON writes it in one way only, and nothing that has a name has it in there.
_GAP = "\0"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode_chunk(chunk: dict[str, Any]) -> bytes:
    return f"data: {_encode(chunk)}\n\n".encode()


class TextChunk:
    """A chunk of which nothing but the text changes: encoded once, then filled in.

    chunk_of: the chunk of a text.
    """

    def __init__(self, chunk_of: Callable[[str], dict[str, Any]]) -> None:
        gap = _encode(_GAP).encode()
        self._before, self._after = encode_chunk(chunk_of(_GAP)).split(gap)

    def of(self, text: str) -> bytes:
        """The same as `encode_chunk(chunk_of(text))`."""
        return self._before + _encode(text).encode() + self._after
