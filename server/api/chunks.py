"""Events of streams in the shape that chats and completions share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

DONE = b"data: [DONE]\n\n"
# JSON writes it in one way only, and nothing that has a name has it in there.
_GAP = "\0"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode_chunk(chunk: dict[str, Any]) -> bytes:
    return f"data: {_encode(chunk)}\n\n".encode()


class TextChunks:
    """Chunks of each choice of which nothing but the text changes: encoded once, then filled in."""

    def __init__(self) -> None:
        self._around: dict[int, list[bytes]] = {}  # by choice: what comes before and after the text

    def of(self, choice: int, text: str, chunk_of: Callable[[str], dict[str, Any]]) -> bytes:
        """The same as `encode_chunk(chunk_of(text))`, which is asked once for each choice."""
        if choice not in self._around:
            whole = encode_chunk(chunk_of(_GAP))
            self._around[choice] = whole.split(_encode(_GAP).encode())
        before, after = self._around[choice]
        return before + _encode(text).encode() + after


def last_chunk(head: Mapping[str, Any], usage: Mapping[str, Any], *, wants_usage: bool) -> bytes:
    """The end of a stream, after the counts that `stream_options.include_usage` asks for."""
    return encode_chunk({**head, "choices": [], "usage": usage}) + DONE if wants_usage else DONE
