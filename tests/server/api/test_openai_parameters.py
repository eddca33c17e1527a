"""Every parameter of OpenAI's two endpoints works, has no effect on purpose, or is refused.

The list is the installed `openai` package's own: one that it adds has no line here, and fails.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.embedding_create_params import EmbeddingCreateParams

from server.api.embeddings import EmbeddingBody
from server.api.errors import UnsupportedParameter
from server.api.only import Only
from server.api.responses.body import ResponsesBody
from tests.server.api.fakes import Site

pytestmark = pytest.mark.anyio

TABLE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
HI = [{"role": "user", "content": "hi"}]
PATHS = {"chat": "/v1/chat/completions", "text": "/v1/completions"}
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"model": "pirate", "messages": HI},
    "text": {"model": "pirate", "prompt": "hi"},
}
OFFICIAL: dict[str, set[str]] = {
    "chat": {*get_type_hints(chat_params.CompletionCreateParamsNonStreaming)},
    "text": {*get_type_hints(text_params.CompletionCreateParamsNonStreaming)},
}

# A value that asks for something, and what comes of it.
WORKS: dict[str, Any] = {
    "best_of": 2,
    "echo": True,
    "frequency_penalty": 0.5,
    "logit_bias": {"5": 2},
    "logprobs": {"chat": True, "text": 1},
    "max_completion_tokens": 2,
    "max_tokens": 2,
    "n": 2,
    "presence_penalty": 0.5,
    "response_format": {"type": "json_object"},
    "seed": 7,
    "stop": ["x"],
    "temperature": 0.5,
    "top_p": 0.5,
}
WITH_OTHERS = {"stream", "stream_options", "top_logprobs", "tools", "tool_choice"} | {
    "parallel_tool_calls"  # test_chat, test_completions and test_tools hold these
}
NO_EFFECT: dict[str, Any] = {
    "metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "service_tier": "flex",
    "store": True,
    "user": "u",
}
REFUSED: dict[str, Any] = {
    "audio": {"voice": "ash", "format": "mp3"},
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "modalities": ["text", "audio"],
    "moderation": {"model": "m"},
    "prediction": {"type": "content", "content": "x"},
    "reasoning_effort": "high",
    "suffix": "x",
    "verbosity": "low",
    "web_search_options": {},
}
CASES = [(kind, name) for kind in OFFICIAL for name in sorted(OFFICIAL[kind])]


@pytest.mark.parametrize(("kind", "name"), CASES)
async def test_a_parameter_does_what_the_table_says(
    site: Site, client: httpx.AsyncClient, kind: str, name: str
) -> None:
    assert f"`{name}`" in TABLE
    if name in BODIES[kind] or name in WITH_OTHERS:
        return
    value = {**WORKS, **NO_EFFECT, **REFUSED}[name]  # KeyError: OpenAI has a new parameter
    if name == "logprobs":
        value = value[kind]
    plain = (await client.post(PATHS[kind], json=BODIES[kind])).json()
    [before] = site.engine.requests
    response = await client.post(PATHS[kind], json={**BODIES[kind], name: value})
    if name in REFUSED:
        assert response.status_code == 400
        error = response.json()["error"]
        assert (error["param"], error["code"]) == (name, UnsupportedParameter.code)
        return
    assert response.status_code == 200, response.text
    after = [dataclasses.replace(one, request_id=before.request_id) for one in site.engine.requests]
    same = after[1:] == [before] and response.json()["choices"] == plain["choices"]
    assert same == (name in NO_EFFECT)


NEWER = sorted(
    name
    for name, field in ResponsesBody.model_fields.items()
    if any(isinstance(each, Only) for each in field.metadata)
)


@pytest.mark.parametrize("name", NEWER)
async def test_responses_refuse_by_name(client: httpx.AsyncClient, name: str) -> None:
    body = {"model": "pirate", "input": "hi", name: {"asks": "for something"}}
    response = await client.post("/v1/responses", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == name
    assert f"`{name}`" in TABLE


def test_every_parameter_of_embeddings_is_known() -> None:
    assert {*get_type_hints(EmbeddingCreateParams)} <= set(EmbeddingBody.model_fields)
