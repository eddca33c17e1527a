"""Tools over HTTP: into the template, out of the text, and back as messages."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from registry.hats import Hat
from tests.server.api.fakes import Site
from tests.server.api.test_chat import events
from tests.support.bytes import byte_tokenizer

pytestmark = pytest.mark.anyio

HERMES = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}:"
    "{{ c.function.arguments.place }}</tool_call>{% endfor %}"
    "{% if m.tool_call_id %}#{{ m.tool_call_id }}{% endif %}{% endfor %}"
)
MISTRAL = "{% for m in messages %}{{ m.content }}{% endfor %}{# [TOOL_CALLS] #}"
PARAMETERS = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
    "additionalProperties": False,
}


def tool(name: str = "get_weather", **extra: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": PARAMETERS, **extra}}


async def ask(client: httpx.AsyncClient, model: str = "caller", **extra: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **extra}
    return await client.post("/v1/chat/completions", json=body)


@pytest.fixture
def caller(site: Site) -> Site:
    """A site whose `caller` writes Hermes' calls, and `mistral` Mistral's."""
    site.engine.max_context = 4096
    site.base.max_context = 4096
    site.registry.push("caller", Hat(chat_template=HERMES, stop=(";",)))
    site.registry.push("mistral", Hat(chat_template=MISTRAL))
    site.engine.words = (
        "Sure.\n<tool",
        '_call>\n{"name": "get_weather", "argu',
        'ments": {"place": "Kö',
        'ln"}}\n</tool_call>\n<tool_call>\n{"name": "get_weather", "arguments": {"place": "Oslo"}}',
        "\n</tool_call>",
    )
    return site


async def test_calls_are_answered_in_openai_shape(caller: Site, client: httpx.AsyncClient) -> None:
    answer = (await ask(client, tools=[tool()])).json()
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Sure.\n"
    first, second = choice["message"]["tool_calls"]
    assert first["function"] == {"name": "get_weather", "arguments": '{"place": "Köln"}'}
    assert second["function"]["arguments"] == '{"place": "Oslo"}'
    assert first["type"] == "function"
    assert first["id"] != second["id"]
    [request] = caller.engine.requests
    assert request.constraint is None  # nothing is strict, nothing has to be called
    assert request.params.stop == ()  # the hat's stop strings would cut calls


@pytest.mark.usefixtures("caller")
async def test_arguments_stream(client: httpx.AsyncClient) -> None:
    response = await ask(client, tools=[tool()], stream=True)
    deltas = [event["choices"][0]["delta"] for event in events(response)[:-1]]
    gains = [gain for delta in deltas for gain in delta.get("tool_calls", ())]
    assert [gain["index"] for gain in gains if "id" in gain] == [0, 1]
    texts = ["", ""]
    for gain in gains:
        texts[gain["index"]] += gain["function"]["arguments"]
    assert texts == ['{"place": "Köln"}', '{"place": "Oslo"}']
    assert sum(gain["index"] == 0 for gain in gains) > 2  # not all at once
    assert "".join(delta.get("content") or "" for delta in deltas) == "Sure.\n"
    assert events(response)[-2]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.usefixtures("caller")
async def test_a_call_cut_short_says_so(client: httpx.AsyncClient) -> None:
    answer = (await ask(client, tools=[tool()], max_tokens=3)).json()
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"place": "Kö'


async def test_the_template_gets_the_tools(caller: Site, client: httpx.AsyncClient) -> None:
    await ask(client, tools=[tool(description="Say it", strict=True)])
    prompt = caller.base.tokenizer.decode(list(caller.engine.requests[0].prompt_token_ids))
    shown = json.loads(prompt.partition("<tools>")[2].partition("</tools>")[0])
    function = {"name": "get_weather", "description": "Say it", "parameters": PARAMETERS}
    assert shown == [{"type": "function", "function": function}]


@pytest.mark.parametrize("parameters", [None, {}])
async def test_a_function_without_parameters_is_called_with_none(
    caller: Site, client: httpx.AsyncClient, parameters: dict[str, Any] | None
) -> None:
    await ask(client, tools=[tool("now", parameters=parameters)], tool_choice="required")
    [request] = caller.engine.requests
    assert request.constraint is not None
    matcher = request.constraint.start()
    tokenizer = byte_tokenizer()
    for token_id in tokenizer.encode('<tool_call>\n{"name": "now", "arguments": {').ids:
        matcher.take(token_id)
    mask = matcher.mask()
    allowed = [each for each in range(256) if mask[each // 32] >> each % 32 & 1]
    assert {tokenizer.decode([each]) for each in allowed} == {"}", "\n", " "}


async def test_none_means_that_no_tool_is_shown_or_read(
    caller: Site, client: httpx.AsyncClient
) -> None:
    answer = (await ask(client, tools=[tool()], tool_choice="none")).json()
    assert "tool_calls" not in answer["choices"][0]["message"]
    assert answer["choices"][0]["message"]["content"].startswith("Sure.\n<tool_call>")
    prompt = caller.base.tokenizer.decode(list(caller.engine.requests[0].prompt_token_ids))
    assert prompt == "<user>hi"


@pytest.mark.parametrize(
    ("fields", "is_shaped"),
    [
        ({}, False),
        ({"tool_choice": "auto"}, False),
        ({"tool_choice": "required"}, True),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, True),
        ({"tools": [tool(strict=True)]}, True),
        ({"response_format": {"type": "json_object"}}, True),
    ],
)
async def test_what_must_hold_is_held_by_a_grammar(
    caller: Site, client: httpx.AsyncClient, fields: dict[str, Any], is_shaped: bool
) -> None:
    response = await ask(client, **{"tools": [tool(), tool("other")], **fields})
    assert response.status_code == 200, response.text
    assert (caller.engine.requests[0].constraint is not None) == is_shaped


async def test_allowed_tools_are_a_part_of_them(caller: Site, client: httpx.AsyncClient) -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "other"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    assert (await ask(client, tools=[tool(), tool("other")], tool_choice=choice)).is_success
    assert caller.engine.requests[0].constraint is not None


async def test_mistrals_words_stay_in_the_text(caller: Site, client: httpx.AsyncClient) -> None:
    caller.base.tokenizer.special = {"[TOOL_CALLS]": 5}
    caller.engine.words = ("[TOOL_CALLS]", ' [{"name": "f", "arguments": {"a": 1}}]')
    answer = (await ask(client, "mistral", tools=[tool("f")])).json()
    [call] = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert answer["choices"][0]["message"]["content"] is None
    assert len(call["id"]) == 9
    assert caller.engine.requests[0].params.skip_special_tokens is False


async def test_results_go_back_through_the_template(
    caller: Site, client: httpx.AsyncClient
) -> None:
    message = (await ask(client, tools=[tool()])).json()["choices"][0]["message"]
    first = message["tool_calls"][0]["id"]
    result = {"role": "tool", "tool_call_id": first, "content": "rain"}
    messages = [{"role": "user", "content": "hi"}, message, result]
    response = await ask(client, messages=messages, tools=[tool()])
    assert response.status_code == 200, response.text
    prompt = caller.base.tokenizer.decode(list(caller.engine.requests[1].prompt_token_ids))
    assert prompt.endswith(
        "<user>hi<assistant>Sure.\n<tool_call>get_weather:Köln</tool_call>"
        f"<tool_call>get_weather:Oslo</tool_call><tool>rain#{first}"
    )


CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool(), tool()]}, "tools.1.function.name"),
        ({"tools": [tool("two words")]}, "tools.0.function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type"),
        ({"tools": [tool(parameters={"type": "obj"})], "tool_choice": "required"}, None),
        (
            {
                "tools": [tool()],
                "tool_choice": {"type": "function", "function": {"name": "nobody"}},
            },
            "tool_choice.function.name",
        ),
        ({"tools": [tool()], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [tool()], "guided_regex": "a"}, "guided_regex"),
        ({"tools": [tool()], "model": "pirate"}, "tools"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "assistant"}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant", "tool_calls": []}]}, "messages.0.content"),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}],
                    }
                ]
            },
            "messages.0.tool_calls.0.function.arguments",
        ),
    ],
)
async def test_what_is_wrong_is_named(
    caller: Site, client: httpx.AsyncClient, fields: dict[str, Any], param: str | None
) -> None:
    response = await ask(client, **fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == (param or "tools.0.function.parameters.type")
    assert not caller.engine.requests
