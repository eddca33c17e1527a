"""A response as it is made: OpenAI's typed events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import count
from typing import Any

from server.api.answers import Answer
from server.api.chunks import encode_chunk
from server.api.documents.chat import ChatCall, ChatFunction
from server.api.documents.response import (
    OutputCall,
    OutputItem,
    OutputMessage,
    ResponseObject,
    Status,
)
from server.api.documents.usage import Usage
from server.api.voice import Voice, whole_message
from server.engine.request import GenerationDelta

from .document import ResponseDocument, call_item, message_item, new_id, text_part

Event = dict[str, Any]
Keep = Callable[[ResponseDocument], Awaitable[None]]


class ResponseFormat:
    """Writes one response, whole or event by event; `keep` is called once it is whole."""

    def __init__(self, document: ResponseDocument, keep: Keep) -> None:
        self._document = document
        self._keep = keep
        self._voice = Voice(document.job.toolbox)
        self._numbers = count()
        self._text = ""
        self._open: _OpenItem | None = None

    async def whole(self, answers: list[Answer], usage: Usage) -> ResponseObject:
        [answer] = answers
        message = whole_message(self._voice.read(answer.text, is_last=True))
        output = self._document.output
        if message["content"] or not message.get("tool_calls"):
            output.append(message_item(new_id("msg"), message["content"] or "", "completed"))
        for call in message.get("tool_calls", ()):
            output.append(call_item(new_id("fc"), call, "completed"))
        self._document.finish_reason, self._document.usage = answer.finish_reason, usage
        await self._keep(self._document)
        return self._document.render()

    def opening(self) -> bytes:
        return _encoded(
            [
                self._event("response.created", response=self._document.render()),
                self._event("response.in_progress", response=self._document.render()),
            ]
        )

    def chunks(self, index: int, delta: GenerationDelta) -> bytes:  # noqa: ARG002
        """What a stretch of text adds, and with the last one, what it closes."""
        is_last = delta.finish_reason is not None
        events = [
            event
            for gain in self._voice.read(delta.text, is_last=is_last)
            for event in self._said(gain)
        ]
        if is_last:
            self._document.finish_reason = delta.finish_reason
            if self._open is None and not self._document.output:
                events += self._begin_message()
            events += self._close()
        return _encoded(events)

    async def closing(self, usage: Usage) -> bytes:
        """The last event, which says itself that it is the last."""
        self._document.usage = usage
        await self._keep(self._document)
        kind = f"response.{self._document.status}"
        return _encoded([self._event(kind, response=self._document.render())])

    def _said(self, gain: dict[str, Any]) -> Iterator[Event]:
        if "content" in gain:
            if not isinstance(self._open, _OpenMessage):
                if self._open is not None and not gain["content"].strip():
                    return  # space between calls
                yield from self._close()
                yield from self._begin_message()
            yield from self._gain(gain["content"])
        for call in gain.get("tool_calls", ()):
            if "id" in call:
                yield from self._close()
                yield from self._begin_call(call)
            yield from self._gain(call["function"]["arguments"])

    def _begin_message(self) -> Iterator[Event]:
        self._open = _OpenMessage(new_id("msg"))
        yield self._item("response.output_item.added", self._open.render("in_progress"))
        yield self._at("response.content_part.added", content_index=0, part=text_part(""))

    def _begin_call(self, call: dict[str, Any]) -> Iterator[Event]:
        self._open = _OpenCall(new_id("fc"), call["id"], call["function"]["name"])
        yield self._item("response.output_item.added", self._open.render("in_progress"))

    def _gain(self, text: str) -> Iterator[Event]:
        assert self._open is not None
        self._open.text += text
        if text and isinstance(self._open, _OpenMessage):
            kind = "response.output_text.delta"
            yield self._at(kind, content_index=0, delta=text, logprobs=[])
        elif text:
            yield self._at("response.function_call_arguments.delta", delta=text)

    def _close(self) -> Iterator[Event]:
        if self._open is None:
            return
        done, text = self._open.render("completed"), self._open.text
        if isinstance(self._open, _OpenMessage):
            kind = "response.output_text.done"
            yield self._at(kind, content_index=0, text=text, logprobs=[])
            yield self._at("response.content_part.done", content_index=0, part=text_part(text))
        else:
            kind = "response.function_call_arguments.done"
            yield self._at(kind, arguments=text, name=self._open.name)
        yield self._item("response.output_item.done", done)
        self._document.output.append(done)
        self._open = None

    def _item(self, kind: str, item: OutputItem) -> Event:
        return self._event(kind, output_index=len(self._document.output), item=item)

    def _at(self, kind: str, **values: Any) -> Event:
        assert self._open is not None
        where = {"item_id": self._open.id, "output_index": len(self._document.output)}
        return self._event(kind, **where, **values)

    def _event(self, kind: str, **values: Any) -> Event:
        return {"type": kind, "sequence_number": next(self._numbers), **values}


def _encoded(events: Iterable[Event]) -> bytes:
    """Each under its type's name."""
    return b"".join(f"event: {each['type']}\n".encode() + encode_chunk(each) for each in events)


class _OpenMessage:
    """Words that still come."""

    def __init__(self, item_id: str) -> None:
        self.id = item_id
        self.text = ""

    def render(self, status: Status) -> OutputMessage:
        return message_item(self.id, self.text, status)


class _OpenCall:
    """A call whose arguments still come."""

    def __init__(self, item_id: str, call_id: str, name: str) -> None:
        self.id = item_id
        self.name = name
        self.text = ""
        self._call_id = call_id

    def render(self, status: Status) -> OutputCall:
        function: ChatFunction = {"name": self.name, "arguments": self.text}
        call: ChatCall = {"id": self._call_id, "type": "function", "function": function}
        return call_item(self.id, call, status)


_OpenItem = _OpenMessage | _OpenCall
