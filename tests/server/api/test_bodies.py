"""Every way to get a body wrong, and the parameter that the answer names."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.bodies import parse_body
from server.api.chat_body import ChatBody
from server.api.completion_body import CompletionBody
from server.errors import InvalidRequest

HI = {"role": "user", "content": "hi"}


def refusal(raw: bytes | dict[str, Any]) -> InvalidRequest:
    text = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    with pytest.raises(InvalidRequest) as caught:
        parse_body(text, ChatBody)
    return caught.value


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "sql", "messages": [HI], **fields}


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"model": "\\ud800"}', b'{"seed": 1' + b"0" * 5000],
)
def test_not_json(raw: bytes) -> None:
    assert refusal(raw).code == "invalid_json"


@pytest.mark.parametrize("raw", [b"[]", b"null", b"7", b'"x"'])
def test_not_an_object(raw: bytes) -> None:
    assert "JSON object" in refusal(raw).message


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"messages": [HI]}, "model", "missing_required_parameter"),
        ({"model": "sql"}, "messages", "missing_required_parameter"),
        (chat(model=""), "model", "invalid_value"),
        (chat(messages=[]), "messages", "invalid_value"),
        (chat(messages="hi"), "messages", "invalid_value"),
        (chat(messages=[HI, HI, {"role": "wizard", "content": ""}]), "messages.2.role", None),
        (
            chat(messages=[{"role": "user"}]),
            "messages.0.content",
            "missing_required_parameter",
        ),
        (chat(messages=[{"role": "user", "content": None}]), "messages.0.content", None),
        (chat(messages=[{"role": "user", "content": []}]), "messages.0.content", None),
        (
            chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
            "messages.0.content.0.type",
            None,
        ),
        (chat(max_tokens="5"), "max_tokens", None),
        (chat(max_tokens=0), "max_tokens", None),
        (chat(max_tokens=1.5), "max_tokens", None),
        (chat(temperature=True), "temperature", None),
        (chat(temperature=2.1), "temperature", None),
        (chat(temperature=float("nan")), "temperature", None),
        (chat(top_p=0), "top_p", None),
        (chat(logit_bias={"x": 1}), "logit_bias.x", None),
        (chat(logit_bias={"5": 101}), "logit_bias.5", None),
        (chat(stop=["a", 3]), "stop.1", None),
        (chat(stop=""), "stop", None),
        (chat(stop=["a"] * 17), "stop", None),
        (chat(top_logprobs=21), "top_logprobs", None),
        (chat(stream="yes"), "stream", None),
        (chat(stream_options={"usage": True}), "stream_options.usage", "unknown_parameter"),
    ],
)
def test_names_the_parameter(body: dict[str, Any], param: str, code: str | None) -> None:
    error = refusal(body)
    assert error.param == param
    assert error.code == (code or "invalid_value")
    assert f"'{param}'" in error.message


@pytest.mark.parametrize(
    "field",
    [
        {"functions": [{"name": "f"}]},
        {"function_call": {"name": "f"}},
        {"best_of": 2},
        {"best_of": True},
        {"echo": True},
        {"prompt_logprobs": 3},
        {"reasoning_effort": "low"},
    ],
)
def test_refuses_unsupported_parameters_by_name(field: dict[str, Any]) -> None:
    error = refusal(chat(**field))
    assert error.code == "unsupported_parameter"
    assert error.param == next(iter(field))


@pytest.mark.parametrize(
    "field", [{"skip_special_tokens": True}, {"priority": 0}, {"best_of": 1}, {"length_penalty": 1}]
)
def test_accepts_the_value_that_is_the_default(field: dict[str, Any]) -> None:
    [(name, value)] = field.items()
    assert getattr(parse_body(json.dumps(chat(**field)).encode(), ChatBody), name) is value


def test_accepts_values_that_change_nothing() -> None:
    body = chat(n=1, tools=[], tool_choice="auto", response_format={"type": "text"}, echo=None)
    body["messages"] = [HI, {"role": "assistant", "content": "yo", "refusal": None}]
    assert parse_body(json.dumps(body).encode(), ChatBody).n == 1


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"model": "m", "mesages": [HI]}, "mesages", "Did you mean 'messages'?"),
        (chat(messages=[{"rol": "user", "content": "x"}]), "messages.0.rol", "no parameter"),
        ({"model": "m"}, "messages", "required"),
    ],
)
def test_a_misspelt_name_comes_before_what_it_leaves_missing(
    body: dict[str, Any], param: str, words: str
) -> None:
    error = refusal(body)
    assert error.param == param
    assert words in error.message


def test_a_role_that_nobody_has_is_answered_with_all_of_them() -> None:
    error = refusal(chat(messages=[{"role": "usr", "content": "x"}]))
    assert error.message == (
        "'messages.0.role': must be one of 'system', 'developer', 'user', 'assistant', 'tool'."
    )


def test_a_format_that_nobody_has_is_answered_with_all_of_them() -> None:
    error = refusal(chat(response_format={"type": "xml"}))
    assert error.message == (
        "'response_format.type': must be one of 'text', 'json_object', 'json_schema'."
    )


def test_unknown_parameters_get_a_hint() -> None:
    error = refusal(chat(temprature=1))
    assert error.code == "unknown_parameter"
    assert error.message == "There is no parameter 'temprature'. Did you mean 'temperature'?"


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    raw = json.dumps(chat(messages=[{"role": "developer", "content": parts}])).encode()
    assert parse_body(raw, ChatBody).turns == [{"role": "system", "content": "ab"}]


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ("", "prompt"),
        ([], "prompt"),
        (5, "prompt"),
        ([[]], "prompt.0"),
        ([1, "a"], "prompt.1"),
        (["a", 1], "prompt.1"),
        ([[1], ["a"]], "prompt.1.0"),
        ([-1], "prompt.0"),
        ([True], "prompt.0"),
    ],
)
def test_prompts(prompt: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_body(json.dumps({"model": "sql", "prompt": prompt}).encode(), CompletionBody)
    assert caught.value.param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(ChatBody.model_fields)), JSON, max_size=5))
def test_any_json_is_parsed_or_refused(fields: dict[str, Any]) -> None:
    raw = json.dumps({"model": "sql", "messages": [HI], **fields}).encode()
    with contextlib.suppress(InvalidRequest):  # anything else would be a 500
        parse_body(raw, ChatBody)


@pytest.mark.anyio
async def test_stream_options_need_a_stream(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/v1/chat/completions", json=chat(stream_options={"include_usage": True})
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "stream_options"


@pytest.mark.anyio
async def test_alternatives_need_logprobs(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json=chat(top_logprobs=2))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "top_logprobs"
    response = await client.post("/v1/chat/completions", json=chat(top_logprobs=0))
    assert response.status_code == 200
