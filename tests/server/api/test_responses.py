"""/v1/responses, mostly through OpenAI's own client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from registry.errors import CatalogUnavailable
from registry.hats import Hat
from server.api import limits
from server.api.keys import parse_keys
from server.api.responses import ResponseStore
from server.api.responses.body import ResponsesBody
from server.settings import ApiSettings
from tests.server.api.fakes import LiveServer, Site, make_site
from tests.server.api.test_tools import HERMES, PARAMETERS

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"place": "Oslo"}}\n</tool_call>'
WEATHER = {"type": "function", "name": "get_weather", "parameters": PARAMETERS}


@pytest.fixture
def store(tmp_path: Path) -> ResponseStore:
    return ResponseStore(tmp_path / "responses.sqlite")


@pytest.fixture
def site(store: ResponseStore) -> Site:
    site = make_site(responses=store)
    site.engine.max_context = site.base.max_context = 4096
    site.registry.push("caller", Hat(chat_template=HERMES))
    return site


@pytest.fixture
def client(live: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def prompt(site: Site) -> str:
    """What the engine was asked last."""
    return site.base.tokenizer.decode(list(site.engine.requests[-1].prompt_token_ids))


def test_a_text_is_answered(site: Site, client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="pirate", input="hi", instructions="Be brief.", metadata={"a": "b"}
    )
    answer = raw.parse()
    assert raw.headers["x-hatstand-adapter"] == "pirate@1"
    assert answer.output_text == "Hello world!"
    assert (answer.status, answer.incomplete_details, answer.metadata) == (
        "completed",
        None,
        {"a": "b"},
    )
    assert (answer.usage.output_tokens, answer.usage.input_tokens_details.cached_tokens) == (4, 2)
    assert prompt(site) == "<system>Be brief.<user>hi<answer>"


def test_an_answer_that_is_cut_says_so(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="pirate", input="hi", max_output_tokens=2)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output_text == "Hello wor"


def test_a_conversation_goes_on(site: Site, client: openai.OpenAI) -> None:
    first = client.responses.create(model="pirate", input="hi", instructions="Be brief.")
    second = client.responses.create(
        model="pirate", input=[{"role": "user", "content": "go on"}], previous_response_id=first.id
    )
    expected = "<user>hi<assistant>Hello world!<user>go on<answer>"
    assert prompt(site) == expected  # instructions are of one response alone
    assert second.previous_response_id == first.id
    assert client.responses.retrieve(second.id).output_text == "Hello world!"
    [asked] = client.responses.input_items.list(second.id).data
    assert asked.content == "go on"
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.create(model="pirate", input="x", previous_response_id=first.id)
    assert (gone.value.code, gone.value.param) == ("response_not_found", "previous_response_id")
    client.responses.create(model="pirate", input="x", previous_response_id=second.id)


def test_what_was_asked_comes_in_pages(client: openai.OpenAI) -> None:
    turns: Any = [{"role": "user", "content": f"turn {number}"} for number in range(5)]
    kept = client.responses.create(model="pirate", input=turns)
    items = client.responses.input_items
    newest: list[Any] = list(items.list(kept.id, limit=2))  # it asks for further pages
    assert [item.content for item in newest] == [f"turn {number}" for number in (4, 3, 2, 1, 0)]
    first: Any = items.list(kept.id, limit=2, order="asc")
    assert [item.content for item in first.data] == ["turn 0", "turn 1"]
    assert first.has_more
    for query, param in (
        ({"after": "msg_x"}, "after"),
        ({"order": "up"}, "order"),
        ({"ordr": "asc"}, "ordr"),
        ({"limit": "0"}, "limit"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            items.list(kept.id, extra_query=query)
        assert refused.value.param == param
    with pytest.raises(openai.BadRequestError, match="query parameter 'include"):
        client.responses.retrieve(kept.id, include=["message.output_text.logprobs"])


def test_what_is_not_to_be_kept_is_not(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="pirate", input="hi", store=False)
    assert answer.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_typed_events(client: openai.OpenAI) -> None:
    with client.responses.create(model="pirate", input="hi", stream=True) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 4,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event.delta for event in events[4:8]) == "Hello world!"
    final = events[-1].response
    assert final.output_text == "Hello world!"
    assert client.responses.retrieve(final.id).id == final.id  # kept before it was said
    with client.responses.stream(model="pirate", input="hi") as helper:
        assert helper.get_final_response().output_text == "Hello world!"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_calls_and_their_results(site: Site, client: openai.OpenAI, is_streamed: bool) -> None:
    site.engine.words = ("Wait.", *[CALL[at : at + 9] for at in range(0, len(CALL), 9)])
    asked: dict[str, Any] = {"model": "caller", "tools": [WEATHER]}
    if is_streamed:
        with client.responses.create(input="hi", stream=True, **asked) as stream:
            *events, last = stream
        answer = last.response
        gains = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
        assert "".join(gains) == '{"place": "Oslo"}'
        assert len(gains) > 1
        done = [e.item for e in events if e.type == "response.output_item.done"]
        assert done == answer.output
    else:
        answer = client.responses.create(input="hi", **asked)
    words, call = answer.output
    assert words.content[0].text.strip() == "Wait."
    assert (call.type, call.name, call.arguments) == (
        "function_call",
        "get_weather",
        '{"place": "Oslo"}',
    )
    site.engine.words = ("Rain.",)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "wet"}
    after = client.responses.create(input=[result], previous_response_id=answer.id, **asked)
    assert after.output_text == "Rain."
    turns = f"<tool_call>get_weather:Oslo</tool_call><tool>wet#{call.call_id}"
    assert turns in prompt(site)
    # The same, with the whole conversation sent along.
    items = [{"role": "user", "content": "hi"}, *answer.output, result]
    client.responses.create(input=items, store=False, **asked)
    assert turns in prompt(site)


def test_after_a_call_that_was_cut_short_the_conversation_goes_on(
    site: Site, client: openai.OpenAI
) -> None:
    site.engine.words = ("<tool_call>", CALL[len("<tool_call>") : -len("}}\n</tool_call>")], "}}")
    cut = client.responses.create(model="caller", input="hi", tools=[WEATHER], max_output_tokens=2)
    assert [each.arguments for each in cut.output] == ['{"place": "Oslo"']
    after = client.responses.create(model="caller", input="go on", previous_response_id=cut.id)
    assert after.status == "completed"
    assert prompt(site) == "<user>hi<assistant><user>go on"


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_conversation_that_has_grown_too_long_is_refused(
    client: openai.OpenAI, is_kept: bool
) -> None:
    many = [{"role": "user", "content": "x"}] * limits.MAX_MESSAGES
    more: dict[str, Any] = {"instructions": "Be brief."}
    if is_kept:
        first = client.responses.create(model="caller", input="hi", max_output_tokens=1)
        more = {"previous_response_id": first.id}
    with pytest.raises(openai.BadRequestError, match="at most 2048") as refused:
        client.responses.create(model="caller", input=many, **more)
    assert refused.value.param == "input"


def test_shapes_become_grammars(site: Site, client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "name": "x", "schema": {"type": "integer"}, "strict": True}
    answer = client.responses.create(model="pirate", input="hi", text={"format": form})
    assert answer.text.format.type == "json_schema"
    assert site.engine.requests[-1].constraint is not None
    form["schema"] = {"type": "nothing"}
    with pytest.raises(openai.BadRequestError) as wrong:
        client.responses.create(model="pirate", input="hi", text={"format": form})
    assert wrong.value.param.startswith("text.format.schema")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input.0.role"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"max_output_tokens": 100_000}, "input"),  # as chats name the messages
        ({"temprature": 1}, "temprature"),
    ],
)
def test_refusals_name_the_parameter(
    client: openai.OpenAI, change: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="pirate", **{"input": "hi"}, extra_body=change)
    assert str(refused.value.param).startswith(param)


def test_every_parameter_of_openais_client_is_known() -> None:
    assert {*ResponseCreateParamsBase.__annotations__, "stream"} <= set(ResponsesBody.model_fields)


def test_nobody_sees_anothers(store: ResponseStore) -> None:
    settings = ApiSettings(keys=parse_keys(["first-key-1", "second-key-2"], where="test"))
    with LiveServer(make_site(settings, responses=store)) as live:

        def ask(key: str, method: str, path: str, **body: Any) -> httpx.Response:
            headers = {"authorization": f"Bearer {key}"}
            url = f"{live.url}/v1/responses{path}"
            return httpx.request(method, url, headers=headers, json=body or None)

        mine = ask("first-key-1", "POST", "", model="pirate", input="hi").json()["id"]
        assert ask("first-key-1", "GET", f"/{mine}").status_code == 200
        otherwise = {"authorization": "bearer  first-key-1"}  # the same key
        assert httpx.get(f"{live.url}/v1/responses/{mine}", headers=otherwise).is_success
        for method in ("GET", "DELETE"):
            assert ask("second-key-2", method, f"/{mine}").status_code == 404
        body = {"model": "pirate", "input": "x", "previous_response_id": mine}
        assert ask("second-key-2", "POST", "", **body).status_code == 404


def test_a_server_that_keeps_nothing() -> None:
    with LiveServer(make_site()) as live:
        url = f"{live.url}/v1/responses"
        answer = httpx.post(url, json={"model": "pirate", "input": "hi"})
        assert answer.status_code == 200
        assert answer.json()["store"] is False
        assert httpx.get(f"{url}/{answer.json()['id']}").status_code == 404
        kept = httpx.post(url, json={"model": "pirate", "input": "hi", "store": True})
        assert kept.json()["error"]["param"] == "store"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_what_cannot_be_kept_is_answered_and_says_so(
    client: openai.OpenAI, store: ResponseStore, monkeypatch: pytest.MonkeyPatch,
    is_streamed: bool,
) -> None:  # fmt: skip
    def fail(_: object) -> None:
        raise CatalogUnavailable("the responses cannot be used: database or disk is full")

    monkeypatch.setattr(store, "keep", fail)
    if is_streamed:
        *_, last = client.responses.create(model="pirate", input="hi", stream=True)
        assert last.type == "response.completed"
        answer = last.response
    else:
        answer = client.responses.create(model="pirate", input="hi")
    assert answer.output_text == "Hello world!"
    assert not answer.store  # type: ignore[attr-defined]


def test_only_the_newest_are_kept(store: ResponseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from server.api.responses.store import KeptResponse

    monkeypatch.setattr("server.api.responses.store.MOST_PER_OWNER", 2)
    for number in range(4):
        store.keep(KeptResponse(f"resp_{number}", "me", [], [], {}))
        store.keep(KeptResponse(f"other_{number}", "you", [], [], {}))
    assert [store.find(f"resp_{n}", "me") is not None for n in range(4)] == [
        False,
        False,
        True,
        True,
    ]
    assert store.find("resp_3", "you") is None
    monkeypatch.setattr("server.api.responses.store.DAYS", -1)
    store.keep(KeptResponse("resp_9", "me", [], [], {}))
    assert store.find("resp_3", "me") is None
