"""Structured output over HTTP: what is asked reaches the engine, what is wrong is named."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from registry.hats import Hat
from tests.server.api.fakes import Site

pytestmark = pytest.mark.anyio

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def schema_format(schema: object, **extra: object) -> dict[str, Any]:
    named = {"name": "answer", "schema": schema, **extra}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


async def ask(client: httpx.AsyncClient, model: str = "pirate", **extra: Any) -> httpx.Response:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": model, "messages": messages, **extra}
    return await client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize(
    "asked",
    [
        schema_format(PERSON, strict=True),
        schema_format({"type": "array", "uniqueItems": True}),  # as far as a grammar can
        {"response_format": {"type": "json_object"}},
        {"guided_json": PERSON},
        {"guided_json": '{"type": "boolean"}', "guided_whitespace_pattern": " ?"},
        {"guided_regex": "[a-z]+"},
        {"guided_choice": ["yes", "no"]},
        {"guided_grammar": 'start: "a" | "b"'},
        {"structured_outputs": {"json": PERSON, "disable_any_whitespace": True}},
        {"structured_outputs": {"regex": "[0-9]{3}"}},
        {"structured_outputs": {"choice": ["a"]}},
        {"structured_outputs": {"grammar": 'root ::= "x" [0-9]'}},
        {"structured_outputs": {"json_object": True}},
    ],
)
async def test_a_shape_becomes_a_constraint(
    site: Site, client: httpx.AsyncClient, asked: dict[str, Any]
) -> None:
    response = await ask(client, **asked)
    assert response.status_code == 200, response.text
    assert site.engine.requests[0].constraint is not None


async def test_free_text_has_none(site: Site, client: httpx.AsyncClient) -> None:
    await ask(client)
    await ask(client, response_format={"type": "text"})
    assert [request.constraint for request in site.engine.requests] == [None, None]


DEEP: dict[str, Any] = {"type": "string"}
for _ in range(70):
    DEEP = {"type": "array", "items": DEEP}
AT = "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (schema_format({"type": "text"}), f"{AT}.type"),
        (schema_format({"properties": {"a": {"type": 5}}}), f"{AT}.properties.a.type"),
        (schema_format({"anyOf": []}), f"{AT}.anyOf"),
        (schema_format({"properties": {"a": "string"}}), f"{AT}.properties.a"),
        (schema_format({"$ref": "#/$defs/nobody"}), f"{AT}.$ref"),
        (schema_format({"items": {"$ref": "http://x/y"}}), f"{AT}.items.$ref"),
        (schema_format({"x-guidance": {}}), f"{AT}.x-guidance"),
        (schema_format({"properties": {"a": {"pattern": "(["}}}), f"{AT}.properties.a"),
        (schema_format({"items": {"not": {}}}, strict=True), f"{AT}.items"),
        (schema_format({"enum": ["x" * 70_000]}), AT),
        (schema_format(PERSON, name="two words"), "response_format.json_schema.name"),
        (schema_format(PERSON, strikt=True), "response_format.json_schema.strikt"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "7"}, "guided_json"),
        ({"guided_json": {"type": "array", "uniqueItems": True}}, "guided_json"),
        ({"guided_regex": "(a|b"}, "guided_regex"),
        ({"guided_regex": "a{1000000}"}, "guided_regex"),
        ({"guided_regex": "x" * 5000}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", ""]}, "guided_choice"),
        ({"guided_grammar": "start: nothing"}, "guided_grammar"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
    ],
)
async def test_what_is_wrong_is_named(
    site: Site, client: httpx.AsyncClient, asked: dict[str, Any], param: str
) -> None:
    response = await ask(client, **asked)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert not site.engine.requests


async def test_deep_schemas_are_refused(client: httpx.AsyncClient) -> None:
    error = (await ask(client, **schema_format(DEEP))).json()["error"]
    assert "nested more than" in error["message"]


async def test_a_hats_schema_holds_where_the_request_says_nothing(
    site: Site, client: httpx.AsyncClient
) -> None:
    site.registry.push("forms", Hat(response_schema=PERSON, stop=(";",)))
    await ask(client, "forms")
    await ask(client, "forms", stop=["!"], response_format={"type": "json_object"})
    await ask(client, "forms", response_format={"type": "text"})
    shaped, other, free = site.engine.requests
    assert shaped.constraint is not None
    assert shaped.params.stop == ()  # the grammar says where the text ends
    assert other.params.stop == ("!",)
    assert free.constraint is None
    assert free.params.stop == (";",)


async def test_a_hats_schema_that_no_grammar_follows_is_the_adapters_fault(
    site: Site, client: httpx.AsyncClient
) -> None:
    site.registry.push("broken", Hat(response_schema={"type": "string", "pattern": "(["}))
    response = await ask(client, "broken")
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "adapter_not_servable"
    assert "broken@1" in response.json()["error"]["message"]


async def test_completions_take_shapes_too(site: Site, client: httpx.AsyncClient) -> None:
    body = {"model": "pirate", "prompt": ["a", "b"], "guided_regex": "[a-z]+"}
    assert (await client.post("/v1/completions", json=body)).status_code == 200
    first, second = site.engine.requests
    assert first.constraint is second.constraint is not None
