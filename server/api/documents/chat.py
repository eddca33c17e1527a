"""The answers of POST /v1/chat/completions, whole and in chunks."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from .usage import Usage

Ending = Literal["stop", "length", "tool_calls"]


class ChatFunction(TypedDict):
    """A called function; `arguments` is a JSON object's text."""

    name: str
    arguments: str


class ChatCall(TypedDict):
    """One call of a function."""

    id: str
    type: Literal["function"]
    function: ChatFunction


class ChatMessage(TypedDict):
    """What the model said. `content` is null where it only called."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: NotRequired[list[ChatCall]]


class ScoredToken(TypedDict):
    """A token's text with its log-probability; no `bytes` where it is a part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatToken(ScoredToken):
    """A token that was chosen, and what else might have been."""

    top_logprobs: list[ScoredToken]


class ChatLogprobs(TypedDict):
    """The chosen tokens, scored."""

    content: list[ChatToken]
    refusal: None


class ChatChoice(TypedDict):
    """One of `n` answers."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Ending | None
    stop_reason: str | int | None
    token_ids: NotRequired[list[int]]


class ChatAnswer(TypedDict):
    """The `chat.completion` object; `created` in Unix seconds."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: NotRequired[list[int]]


class GainedFunction(TypedDict):
    """What a function's call gains; the name comes first, with none or all of the arguments."""

    name: NotRequired[str]
    arguments: str


class GainedCall(TypedDict):
    """What a call gains; `id` and `type` come with its name."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: GainedFunction


class ChatGain(TypedDict, total=False):
    """What a message gains."""

    role: Literal["assistant"]
    content: str
    tool_calls: list[GainedCall]


class ChatChunkChoice(TypedDict):
    """What one of `n` answers gains."""

    index: int
    delta: ChatGain
    logprobs: ChatLogprobs | None
    finish_reason: Ending | None
    stop_reason: NotRequired[str | int | None]
    token_ids: NotRequired[list[int]]


class ChatChunk(TypedDict):
    """The `chat.completion.chunk` object; `usage` is there where the request asked for it."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: NotRequired[Usage | None]
    prompt_token_ids: NotRequired[list[int]]
