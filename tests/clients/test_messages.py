"""Requests and replies as values."""

from __future__ import annotations

import json
from typing import get_type_hints

import pytest

import clients
from clients import messages
from clients.errors import (
    BadRequest,
    Conflict,
    NotAllowed,
    NotFound,
    RateLimited,
    ServerFault,
    StreamFailed,
    api_error,
)
from clients.messages import Event, Usage
from clients.options import ChatOptions, CompletionOptions
from server.api.chat_body import ChatBody
from server.api.completion_body import CompletionBody
from server.api.only import Only

USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
}


def test_everything_exported_is_there() -> None:
    assert clients.__all__ == sorted(clients.__all__)
    assert all(hasattr(clients, name) for name in clients.__all__)


def test_a_string_is_one_user_message() -> None:
    request = messages.chat_request("sql", "How many?", {"temperature": 0})
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.body == {
        "model": "sql",
        "messages": [{"role": "user", "content": "How many?"}],
        "temperature": 0,
    }


def test_streams_ask_for_usage() -> None:
    body = messages.chat_request("sql", "x", {}, stream=True).body
    assert body is not None
    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("prompt", ["text", [1, 2]])
def test_completions_take_text_or_tokens(prompt: str | list[int]) -> None:
    body = messages.completion_request("sql", prompt, {"max_tokens": 4}).body
    assert body == {"model": "sql", "prompt": prompt, "max_tokens": 4}


def test_answers() -> None:
    headers = {"x-hatstand-adapter": "sql@3", "x-hatstand-digest": "sha256:ab"}
    choice = {"message": {"content": "SELECT 1"}, "finish_reason": "stop"}
    answer = messages.parse_answer({"choices": [choice], "usage": USAGE}, headers)
    assert (answer.text, answer.adapter, answer.digest) == ("SELECT 1", "sql@3", "sha256:ab")
    assert answer.usage == Usage(prompt=3, completion=2, cached=1)


@pytest.mark.parametrize(
    ("data", "event"),
    [
        ({"choices": [{"delta": {"content": "a"}, "finish_reason": None}]}, Event("a")),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, Event("", "stop")),
        ({"choices": [{"text": "b", "finish_reason": None}]}, Event("b")),
        ({"choices": [], "usage": USAGE}, Event(usage=Usage(3, 2, 1))),
    ],
)
def test_events(data: object, event: Event) -> None:
    assert messages.parse_event(f"data: {json.dumps(data)}") == event


@pytest.mark.parametrize("line", ["", ": ping - 2026", "data: [DONE]", "event: x"])
def test_lines_that_carry_nothing(line: str) -> None:
    assert messages.parse_event(line) is None


def test_error_events() -> None:
    with pytest.raises(StreamFailed, match="gone"):
        messages.parse_event('data: {"error": {"message": "gone"}}')


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        (413, BadRequest),
        (429, RateLimited),
        (500, ServerFault),
        (503, ServerFault),
    ],
)
def test_refusals(status: int, kind: type[Exception]) -> None:
    body = {"error": {"message": "no", "code": "c", "param": "p"}}
    error = api_error(status, body, {"retry-after": "2"})
    assert type(error) is kind
    assert (str(error), error.code, error.param, error.retry_after) == ("no", "c", "p", 2.0)


def test_refusals_by_a_stranger() -> None:
    assert "502" in str(api_error(502, "<html>bad gateway</html>", {}))


CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}


def test_an_answer_that_calls() -> None:
    message = {"content": None, "tool_calls": [CALL]}
    choice = {"message": message, "finish_reason": "tool_calls", "logprobs": {"content": []}}
    answer = messages.parse_answer({"choices": [choice], "usage": USAGE}, {})
    assert (answer.text, answer.logprobs) == ("", {"content": []})
    assert answer.tool_calls == (clients.ToolCall("c", "look", '{"a": 1}'),)


def test_a_stream_that_calls() -> None:
    chunk = {"choices": [{"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}]}
    event = messages.parse_event("data: " + json.dumps(chunk))
    assert event == Event(tool_calls=({"index": 0},))


def test_a_stream_of_several_answers_says_whose_text_it_is() -> None:
    chunk = {"choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": None}]}
    assert messages.parse_event("data: " + json.dumps(chunk)) == Event(text="b", choice=1)


def test_options_are_what_the_server_takes() -> None:
    """All that has an effect, and nothing that would be refused."""
    for options, body, elsewhere in (
        (ChatOptions, ChatBody, {"messages"}),
        (CompletionOptions, CompletionBody, {"prompt"}),
    ):
        known = {*get_type_hints(options)}
        taken = {
            name
            for name, field in body.model_fields.items()
            if not any(isinstance(each, Only) for each in field.metadata)
        }
        assert known <= taken
        assert taken - known == elsewhere | IDLE[options]


IDLE = {
    ChatOptions: {
        *(
            "model",
            "adapters",
            "stream",
            "stream_options",
            "max_completion_tokens",
            "service_tier",
            "store",
        ),
        *("safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        "prompt_cache_options",
    },
    CompletionOptions: {
        *("model", "adapters", "stream", "stream_options", "service_tier", "safety_identifier")
    },
}


def test_shapes_and_tools_as_the_server_reads_them() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    request = messages.chat_request(
        "sql",
        "x",
        {
            "response_format": clients.json_schema("step", schema),
            "tools": [clients.function_tool("look", schema, description="Looks.", strict=True)],
            "tool_choice": clients.named_tool("look"),
        },
    )
    body = ChatBody.model_validate_json(json.dumps(request.body))
    assert body.tools is not None
    assert body.tools[0].function.name == "look"
