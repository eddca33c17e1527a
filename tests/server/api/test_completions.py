"""POST /v1/completions, without a socket."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from server.settings import ApiSettings
from tests.server.api.fakes import Site, make_site, open_client

pytestmark = pytest.mark.anyio


async def complete(client: httpx.AsyncClient, prompt: Any, **extra: Any) -> httpx.Response:
    body = {"model": "pirate", "prompt": prompt, **extra}
    return await client.post("/v1/completions", json=body)


async def test_text_prompt(site: Site, client: httpx.AsyncClient) -> None:
    answer = (await complete(client, "Ahoy")).json()
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == "Hello world!"
    assert answer["usage"]["prompt_tokens"] == 4
    [sequence] = site.engine.requests
    assert sequence.prompt_token_ids == tuple(site.base.tokenizer.encode("Ahoy"))
    assert sequence.params.max_tokens == 16  # OpenAI's default for this endpoint


async def test_plain_text_gets_the_bos_that_the_tokenizer_puts_before_it(
    site: Site, client: httpx.AsyncClient
) -> None:
    site.base.tokenizer.bos = 1
    await complete(client, "Ahoy")
    await complete(client, [5, 6])
    await client.post(
        "/v1/chat/completions",
        json={"model": "pirate", "messages": [{"role": "user", "content": "Ahoy"}]},
    )
    text, ids, chat = (sequence.prompt_token_ids for sequence in site.engine.requests)
    assert text == (1, *site.base.tokenizer.encode("Ahoy"))
    assert ids == (5, 6)
    assert 1 not in chat  # its template writes the special tokens


async def test_token_id_prompt(site: Site, client: httpx.AsyncClient) -> None:
    answer = (await complete(client, [5, 6, 7], return_token_ids=True)).json()
    assert site.engine.requests[0].prompt_token_ids == (5, 6, 7)
    assert answer["choices"][0]["prompt_token_ids"] == [5, 6, 7]
    assert answer["choices"][0]["token_ids"] == [0, 1, 2, 3]


@pytest.mark.parametrize("prompts", [["a", "bc"], [[1], [2, 3]]])
async def test_several_prompts(site: Site, client: httpx.AsyncClient, prompts: list[Any]) -> None:
    answer = (await complete(client, prompts)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 8,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert len({sequence.request_id for sequence in site.engine.requests}) == 2


async def test_several_prompts_stream_interleaved(site: Site, client: httpx.AsyncClient) -> None:
    site.engine.delay = 0.001
    response = await complete(
        client, ["a", "b"], stream=True, stream_options={"include_usage": True}
    )
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    *chunks, usage = [json.loads(line) for line in lines[:-1]]
    texts = {0: "", 1: ""}
    for chunk in chunks:
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert texts == {0: "Hello world!", 1: "Hello world!"}
    assert [c["choices"][0]["index"] for c in chunks] != sorted(
        c["choices"][0]["index"] for c in chunks
    )
    assert usage["usage"]["completion_tokens"] == 8
    assert lines[-1] == "[DONE]"


async def test_one_failing_prompt_ends_its_neighbours(
    site: Site, client: httpx.AsyncClient
) -> None:
    site.engine.error_after = (1, RuntimeError("no"))
    assert (await complete(client, ["a", "b"])).status_code == 500
    assert site.engine.num_running == 0


async def test_logprobs(client: httpx.AsyncClient) -> None:
    answer = (await complete(client, "x", logprobs=1, max_tokens=2)).json()
    assert answer["choices"][0]["logprobs"] == {
        "tokens": ["Hello", " wor"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"?": -2.0, "Hello": -0.5}, {"?": -2.0, " wor": -0.5}],
        "text_offset": [0, 5],
    }
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_stream_offsets_go_on(client: httpx.AsyncClient) -> None:
    response = await complete(client, "x", logprobs=0, stream=True)
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    offsets = [json.loads(line)["choices"][0]["logprobs"]["text_offset"] for line in lines[:-1]]
    assert offsets == [[0], [5], [9], [11]]


async def test_token_outside_the_vocabulary(client: httpx.AsyncClient) -> None:
    for extra, param in (
        ({"prompt": [1000]}, "prompt"),
        ({"prompt": "x", "logit_bias": {"1000": 1}}, "logit_bias.1000"),
        ({"prompt": "x", "stop_token_ids": [1, 1000]}, "stop_token_ids.1"),
    ):
        response = await complete(client, **extra)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param
        assert "1000" in response.json()["error"]["message"]


async def test_minimum_over_maximum(client: httpx.AsyncClient) -> None:
    response = await complete(client, "x", max_tokens=2, min_tokens=3)
    assert response.json()["error"]["param"] == "min_tokens"


async def test_overflow_names_the_prompt(client: httpx.AsyncClient) -> None:
    error = (await complete(client, "x" * 60, max_tokens=5)).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "prompt"


async def test_too_many_prompts() -> None:
    async with open_client(make_site(ApiSettings(max_prompts=2)).app) as client:
        response = await complete(client, ["a", "b", "c"])
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"
