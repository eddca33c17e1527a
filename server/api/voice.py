"""What one answer of a chat says, as parts of OpenAI's message: words and calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.engine.request import FinishReason
from server.tools import CallDelta, CallReader, Toolbox

from .answers import said_reason
from .documents.chat import ChatCall, ChatMessage, Ending

Delta = dict[str, Any]
"""As `delta` in a chunk: `content`, or `tool_calls` with one call's gain."""


class Voice:
    """Reads one answer as it comes. Without a toolbox everything is words."""

    def __init__(self, toolbox: Toolbox | None) -> None:
        self._toolbox = toolbox
        self._reader = None if toolbox is None else CallReader(toolbox.format)

    def read(self, text: str, *, is_last: bool) -> list[Delta]:
        """What the next stretch of text adds to the message."""
        if self._reader is None:
            return [{"content": text}] if text else []
        pieces = self._reader.push(text)
        if is_last:
            pieces += self._reader.finish()
        return [
            {"content": piece} if isinstance(piece, str) else {"tool_calls": [self._call(piece)]}
            for piece in pieces
        ]

    def ending(self, reason: FinishReason | None) -> Ending | None:
        """OpenAI's finish reason: whole calls are a reason of their own."""
        has_called = self._reader is not None and self._reader.num_calls > 0
        return "tool_calls" if has_called and reason == "stop" else said_reason(reason)

    def _call(self, piece: CallDelta) -> dict[str, Any]:
        if piece.name is None:
            return {"index": piece.index, "function": {"arguments": piece.arguments}}
        assert self._toolbox is not None
        return {
            "index": piece.index,
            "id": self._toolbox.format.new_id(),
            "type": "function",
            "function": {"name": piece.name, "arguments": piece.arguments},
        }


def whole_message(deltas: Sequence[Delta]) -> ChatMessage:
    """The message that the deltas make together."""
    content = "".join(delta.get("content", "") for delta in deltas)
    calls: list[ChatCall] = []
    for delta in deltas:
        for gain in delta.get("tool_calls", ()):
            if "id" in gain:
                calls.append({"id": gain["id"], "type": gain["type"], "function": gain["function"]})
            else:
                calls[gain["index"]]["function"]["arguments"] += gain["function"]["arguments"]
    message: ChatMessage = {"role": "assistant", "content": content, "refusal": None}
    if not calls:
        return message
    return {**message, "content": content if content.strip() else None, "tool_calls": calls}
