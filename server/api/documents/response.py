"""The answers of POST /v1/responses: the `response` object and its items."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from .usage import TokenDetails

Status = Literal["in_progress", "completed", "incomplete"]


class OutputText(TypedDict):
    """Words of an answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class OutputMessage(TypedDict):
    """Words, as an item of the output."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Status
    content: list[OutputText]


class OutputCall(TypedDict):
    """A call, as an item of the output."""

    id: str
    type: Literal["function_call"]
    status: Status
    call_id: str
    name: str
    arguments: str


OutputItem = OutputMessage | OutputCall


class CutReason(TypedDict):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"]


class Reasoning(TypedDict):
    """Nothing of it here."""

    effort: None
    summary: None


class ResponseText(TypedDict):
    """What the answer had to look like."""

    format: dict[str, Any]


class ReasoningTokens(TypedDict):
    """Always none."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """How many tokens it took."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseObject(TypedDict):
    """OpenAI's object. Defaults are those of the hat, which nothing here repeats."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    background: Literal[False]
    error: None
    incomplete_details: CutReason | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: Reasoning
    service_tier: None
    store: bool
    system_fingerprint: str
    temperature: float | None
    text: ResponseText
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None


class InputItems(TypedDict):
    """What a response was asked with."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
