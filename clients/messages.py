"""Requests to a server and its replies, as values: no socket is opened here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import StreamFailed
from .options import ChatOptions, CompletionOptions
from .weighted import naming

Conversation = str | Sequence[Mapping[str, Any]]
"""One user message, or a list of messages with `role` and `content`."""


@dataclass(frozen=True)
class Request:
    """One HTTP request to come."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """Numbers of tokens."""

    prompt: int
    completion: int
    cached: int


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants called; answer with a `tool` message that has its `id`."""

    id: str
    name: str
    arguments: str  # JSON, as the model wrote it


@dataclass(frozen=True)
class Answer:
    """A whole answer, the first of `raw["choices"]`.

    `adapter` ("sql@3", or the base's name) is who gave it. `logprobs` is as in OpenAI's reply.
    """

    text: str
    finish_reason: str | None
    adapter: str
    digest: str
    usage: Usage
    raw: Mapping[str, Any]
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Event:
    """One event of a stream: more text, parts of tool calls, an end, or the final counts.

    `tool_calls` are as in OpenAI's chunks: each has its call's `index`, the first its name.
    `choice` says which of `n` answers it is of.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    logprobs: Mapping[str, Any] | None = None
    choice: int = 0


@dataclass(frozen=True)
class Model:
    """One name that `model` may be; `root` is the version it means now."""

    id: str
    root: str
    parent: str | None
    digest: str

    @property
    def is_base(self) -> bool:
        return self.parent is None


def build_request(
    path: str,
    model: str,
    asked: Mapping[str, Any],
    options: ChatOptions | CompletionOptions,
    *,
    stream: bool = False,
) -> Request:
    """A request that generates. `asked` holds the prompt or the messages.

    A model such as "sql*0.7+pirate*0.3" is several adapters at once, with the first one's hat.
    """
    body: dict[str, Any] = {**naming(model), **asked, **options}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Request("POST", path, body)


def chat_request(
    model: str, conversation: Conversation, options: ChatOptions, *, stream: bool = False
) -> Request:
    """A chat; a plain string is one user message."""
    messages: Any = conversation
    if isinstance(conversation, str):
        messages = [{"role": "user", "content": conversation}]
    asked = {"messages": list(messages)}
    return build_request("/v1/chat/completions", model, asked, options, stream=stream)


def completion_request(
    model: str, prompt: str | Sequence[int], options: CompletionOptions
) -> Request:
    """A prompt to continue, as text or as token ids."""
    asked = {"prompt": prompt if isinstance(prompt, str) else list(prompt)}
    return build_request("/v1/completions", model, asked, options)


def load_request(name: str, *, pin: bool) -> Request:
    return Request("POST", "/v1/load_lora_adapter", {"lora_name": name, "pin": pin})


def unload_request(name: str) -> Request:
    return Request("POST", "/v1/unload_lora_adapter", {"lora_name": name})


def parse_answer(body: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
    """A whole reply of either endpoint."""
    choice = body["choices"][0]
    message = choice.get("message", {})
    text = message["content"] if message else choice["text"]
    return Answer(
        text=text or "",  # nothing is said beside calls
        finish_reason=choice["finish_reason"],
        adapter=headers.get("x-hatstand-adapter", ""),
        digest=headers.get("x-hatstand-digest", ""),
        usage=_usage(body["usage"]),
        raw=body,
        tool_calls=tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        ),
        logprobs=choice.get("logprobs"),
    )


def is_end(line: str) -> bool:
    """Whether the answer is whole: a server that dies, or a proxy before it, ends without."""
    return line.startswith("data:") and line.removeprefix("data:").strip() == "[DONE]"


def broken_off() -> StreamFailed:
    """What is wrong with a stream that has ended without."""
    return StreamFailed("The stream ended before the answer was whole.")


def parse_event(line: str) -> Event | None:
    """One line of a stream, None if it carries nothing. Raises StreamFailed on an error event."""
    if not line.startswith("data:") or is_end(line):
        return None  # a keep-alive comment, the empty line between events, or the last line
    chunk = json.loads(line.removeprefix("data:"))
    if "error" in chunk:
        raise StreamFailed(chunk["error"].get("message", "The server ended the stream."))
    usage = _usage(chunk["usage"]) if chunk.get("usage") else None
    if not chunk["choices"]:
        return Event(usage=usage)
    choice = chunk["choices"][0]
    delta = choice.get("delta", {})
    text = delta.get("content") if "delta" in choice else choice["text"]
    return Event(
        text=text or "",
        finish_reason=choice["finish_reason"],
        usage=usage,
        tool_calls=tuple(delta.get("tool_calls") or ()),
        logprobs=choice.get("logprobs"),
        choice=choice.get("index", 0),
    )


def parse_model(card: Mapping[str, Any]) -> Model:
    return Model(
        id=card["id"],
        root=card.get("root") or card["id"],
        parent=card.get("parent"),
        digest=card.get("digest", ""),
    )


def parse_models(body: Mapping[str, Any]) -> list[Model]:
    return [parse_model(card) for card in body["data"]]


def _usage(counts: Mapping[str, Any]) -> Usage:
    details = counts.get("prompt_tokens_details") or {}
    return Usage(
        prompt=counts["prompt_tokens"],
        completion=counts["completion_tokens"],
        cached=details.get("cached_tokens", 0),
    )
