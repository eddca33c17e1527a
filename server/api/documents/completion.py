"""The answers of POST /v1/completions, whole and in chunks, which have the same shape."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from .usage import Usage


class CompletionLogprobs(TypedDict):
    """The text's tokens, scored; a prompt's first has no probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(TypedDict):
    """A continuation, or what it gains."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None
    stop_reason: str | int | None
    token_ids: NotRequired[list[int]]
    prompt_token_ids: NotRequired[list[int]]


class CompletionHead(TypedDict):
    """What all chunks of a completion repeat; `created` in Unix seconds."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str


class Completion(CompletionHead):
    """The `text_completion` object; chunks have `usage` where the request asked for it."""

    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]
