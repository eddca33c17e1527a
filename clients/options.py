"""What a request may say beside its prompt, typed; shapes of answers and tools as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

Json = Mapping[str, Any]


class SamplingOptions(TypedDict, total=False):
    """How to choose tokens; what is left out is the adapter's hat's to say, then the server's."""

    max_tokens: int
    min_tokens: int
    n: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: Mapping[str, float]
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    skip_special_tokens: bool
    return_token_ids: bool
    response_format: Json
    structured_outputs: Json
    guided_json: Json | str
    guided_regex: str
    guided_choice: Sequence[str]
    guided_grammar: str
    guided_whitespace_pattern: str
    user: str
    metadata: Mapping[str, Any]


class ChatOptions(SamplingOptions, total=False):
    """What a chat takes besides."""

    logprobs: bool
    top_logprobs: int
    tools: Sequence[Json]
    tool_choice: Literal["auto", "none", "required"] | Json
    parallel_tool_calls: bool


class CompletionOptions(SamplingOptions, total=False):
    """What a completion takes besides; `logprobs` is the number of alternatives."""

    logprobs: int
    best_of: int
    echo: bool


def json_schema(name: str, schema: Json, *, strict: bool = True) -> Json:
    """A `response_format`: the answer is JSON that follows `schema`."""
    shape = {"name": name, "schema": schema, "strict": strict}
    return {"type": "json_schema", "json_schema": shape}


def function_tool(
    name: str, parameters: Json, *, description: str = "", strict: bool = False
) -> Json:
    """One of `tools`: a function to call with arguments that follow `parameters`."""
    function: dict[str, Any] = {"name": name, "parameters": parameters}
    if description:
        function["description"] = description
    if strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def named_tool(name: str) -> Json:
    """A `tool_choice`: this function is called, once."""
    return {"type": "function", "function": {"name": name}}
