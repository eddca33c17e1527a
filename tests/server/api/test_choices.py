"""Several answers to a prompt, the best of them, and answers that begin with their prompt."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.server.api.fakes import Site
from tests.server.api.test_chat import events

pytestmark = pytest.mark.anyio


async def complete(client: httpx.AsyncClient, prompt: Any = "hi", **extra: Any) -> httpx.Response:
    body = {"model": "pirate", "prompt": prompt, **extra}
    return await client.post("/v1/completions", json=body)


async def test_n_answers_to_a_chat(site: Site, client: httpx.AsyncClient) -> None:
    body = {"model": "pirate", "messages": [{"role": "user", "content": "hi"}], "n": 3, "seed": 5}
    answer = (await client.post("/v1/chat/completions", json=body)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in answer["choices"]} == {"Hello world!"}
    assert [request.params.seed for request in site.engine.requests] == [5, 6, 7]
    prompt = len(site.engine.requests[0].prompt_token_ids)
    assert answer["usage"]["prompt_tokens"] == prompt  # one prompt, however many answers
    assert answer["usage"]["completion_tokens"] == 12


async def test_n_answers_to_each_of_several_prompts(client: httpx.AsyncClient) -> None:
    answer = (await complete(client, ["a", "bc"], n=2, return_token_ids=True)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    prompts = [len(choice["prompt_token_ids"]) for choice in answer["choices"]]
    assert prompts == [1, 1, 2, 2]
    assert answer["usage"]["prompt_tokens"] == 3


async def test_n_streams(client: httpx.AsyncClient) -> None:
    response = await complete(client, n=2, stream=True, stream_options={"include_usage": True})
    *chunks, last, done = events(response)
    assert done == "[DONE]"
    texts = ["", ""]
    for chunk in chunks:
        [choice] = chunk["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == ["Hello world!"] * 2
    assert last["usage"]["prompt_tokens"] == 2


async def test_other_answers_begin_when_the_first_has(
    site: Site, client: httpx.AsyncClient
) -> None:
    site.engine.words = ("a", "b")
    await complete(client, ["x", "y"], n=2)
    ids = [request.request_id.rpartition("-")[2] for request in site.engine.requests]
    assert set(ids[:2]) == {"0", "2"}
    assert set(ids[2:]) == {"1", "3"}


async def test_the_best_are_the_most_probable(site: Site, client: httpx.AsyncClient) -> None:
    site.engine.scores = (-3.0, -5.0, -1.0, -4.0)
    answer = (await complete(client, n=2, best_of=4, return_token_ids=True)).json()
    assert len(answer["choices"]) == 2
    assert answer["choices"][0]["logprobs"] is None
    assert answer["usage"]["completion_tokens"] == 16
    scored = (await complete(client, n=2, best_of=4, logprobs=0)).json()["choices"]
    assert [choice["logprobs"]["token_logprobs"][0] for choice in scored] == [-1.0, -3.0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 65}, "n"),
        ({"best_of": 65}, "best_of"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"suffix": "x"}, "suffix"),
    ],
)
async def test_what_does_not_go_together_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await complete(client, **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("prompt", ["hey", [104, 101, 121]])
async def test_echo_begins_with_the_prompt(client: httpx.AsyncClient, prompt: Any) -> None:
    [choice] = (await complete(client, prompt, echo=True, logprobs=1)).json()["choices"]
    assert choice["text"] == "heyHello world!"
    scored = choice["logprobs"]
    assert scored["tokens"] == ["h", "e", "y", "Hello", " wor", "ld", "!"]
    assert scored["text_offset"] == [0, 1, 2, 3, 8, 12, 14]
    assert scored["token_logprobs"] == [None, -1.0, -1.0, -0.5, -0.5, -0.5, -0.5]
    assert scored["top_logprobs"][0] is None
    assert scored["top_logprobs"][1] == {"e": -1.0}


async def test_echo_without_probabilities(site: Site, client: httpx.AsyncClient) -> None:
    [choice] = (await complete(client, "hey", echo=True)).json()["choices"]
    assert choice["text"] == "heyHello world!"
    assert choice["logprobs"] is None
    assert site.engine.requests[0].params.prompt_logprobs is None


async def test_echo_alone_makes_no_token(client: httpx.AsyncClient) -> None:
    answer = (await complete(client, "hey", echo=True, logprobs=0, max_tokens=0)).json()
    [choice] = answer["choices"]
    assert choice["text"] == "hey"
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"]["tokens"] == ["h", "e", "y"]
    assert answer["usage"]["completion_tokens"] == 0


async def test_every_choice_echoes(site: Site, client: httpx.AsyncClient) -> None:
    answer = (await complete(client, ["ab", "c"], echo=True, logprobs=0, n=2, max_tokens=1)).json()
    tokens = [choice["logprobs"]["tokens"] for choice in answer["choices"]]
    assert tokens == [["a", "b", "Hello"]] * 2 + [["c", "Hello"]] * 2
    scored = [request.params.prompt_logprobs for request in site.engine.requests]
    assert sorted(map(str, scored)) == ["0", "0", "None", "None"]  # each prompt once


async def test_echo_streams(client: httpx.AsyncClient) -> None:
    response = await complete(client, "hey", echo=True, logprobs=0, stream=True)
    chunks = [event["choices"][0] for event in events(response)[:-1]]
    assert "".join(chunk["text"] for chunk in chunks) == "heyHello world!"
    offsets = [offset for chunk in chunks for offset in chunk["logprobs"]["text_offset"]]
    assert offsets == [0, 1, 2, 3, 8, 12, 14]
