"""POST /v1/chat/completions, without a socket."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from registry.errors import RegistryUnreachable
from registry.hats import Hat, Sampling
from server.errors import AdapterLoadError, QueueFull
from tests.server.api.fakes import BASE_FINGERPRINT, Site

pytestmark = pytest.mark.anyio

HI = [{"role": "user", "content": "hi"}]


async def ask(client: httpx.AsyncClient, model: str = "sql", **extra: Any) -> httpx.Response:
    body = {"model": model, "messages": HI, **extra}
    return await client.post("/v1/chat/completions", json=body)


def events(response: httpx.Response) -> list[Any]:
    """The stream's data lines, parsed; "[DONE]" stays text."""
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_answers_in_openai_shape(client: httpx.AsyncClient) -> None:
    response = await ask(client)
    assert response.status_code == 200
    answer = response.json()
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "sql"
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello world!", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 4
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 4


async def test_says_which_version_answered(site: Site, client: httpx.AsyncClient) -> None:
    version = site.registry.lines["sql"][1]
    response = await ask(client, "sql@2")
    assert response.headers["x-hatstand-adapter"] == "sql@2"
    assert response.headers["x-hatstand-digest"] == version.digest
    short = version.digest.removeprefix("sha256:")[:12]
    assert response.json()["system_fingerprint"] == f"base-ba5eba5eba5e_adapter-{short}"
    [sequence] = site.engine.requests
    assert sequence.adapter is not None
    assert sequence.adapter.digest == version.digest


async def test_base_name_means_no_adapter(site: Site, client: httpx.AsyncClient) -> None:
    response = await ask(client, "tiny-mistral")
    assert response.headers["x-hatstand-adapter"] == "tiny-mistral"
    assert response.headers["x-hatstand-digest"] == BASE_FINGERPRINT
    assert site.engine.requests[0].adapter is None


@pytest.mark.parametrize(
    ("model", "label"),
    [("sql", "sql@1"), ("sql@prod", "sql@1"), ("sql@2", "sql@2"), ("pirate", "pirate@1")],
)
async def test_resolves_references(client: httpx.AsyncClient, model: str, label: str) -> None:
    assert (await ask(client, model)).headers["x-hatstand-adapter"] == label


async def test_resolves_digests(site: Site, client: httpx.AsyncClient) -> None:
    digest = site.registry.lines["sql"][1].digest
    assert (await ask(client, f"sql@{digest}")).headers["x-hatstand-adapter"] == "sql@2"


async def test_alias_moves_count_at_once(site: Site, client: httpx.AsyncClient) -> None:
    assert (await ask(client)).headers["x-hatstand-adapter"] == "sql@1"
    site.registry.set_alias("sql", "prod", 2)
    assert (await ask(client)).headers["x-hatstand-adapter"] == "sql@2"
    site.registry.push("pirate")
    assert (await ask(client, "pirate")).headers["x-hatstand-adapter"] == "pirate@2"


async def test_unknown_adapter_names_near_matches(client: httpx.AsyncClient) -> None:
    response = await ask(client, "sq1")
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "adapter_not_found"
    assert error["param"] == "model"
    assert "'sql'" in error["message"]


async def test_impossible_model_name_is_not_found(client: httpx.AsyncClient) -> None:
    response = await ask(client, "Mistral/7B")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("model", "code"), [("sql@9", "version_not_found"), ("sql@canary", "alias_not_found")]
)
async def test_missing_version_and_alias(client: httpx.AsyncClient, model: str, code: str) -> None:
    response = await ask(client, model)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == code
    assert response.json()["error"]["param"] == "model"


async def test_adapter_of_another_base_is_refused(client: httpx.AsyncClient) -> None:
    response = await ask(client, "odd")
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "adapter_not_servable"


async def test_hat_shapes_the_prompt(site: Site, client: httpx.AsyncClient) -> None:
    await ask(client, "sql")
    [sequence] = site.engine.requests
    expected = "<system>Write SQL.<user>hi<answer>"
    assert sequence.prompt_token_ids == tuple(site.base.tokenizer.encode(expected))
    assert sequence.params.stop == (";",)


async def test_hats_own_template_wins(site: Site, client: httpx.AsyncClient) -> None:
    site.registry.push("own", Hat(chat_template="Q: {{ messages[-1]['content'] }} A:"))
    await ask(client, "own")
    assert site.engine.requests[0].prompt_token_ids == tuple(site.base.tokenizer.encode("Q: hi A:"))


async def test_request_wins_over_hat(site: Site, client: httpx.AsyncClient) -> None:
    await ask(client, "sql@2")
    await ask(client, "sql@2", temperature=0.9, max_tokens=2)
    await ask(client, "sql", stop=["!", ";"])
    by_hat, by_request, stops = (sequence.params for sequence in site.engine.requests)
    assert (by_hat.temperature, by_hat.max_tokens) == (0.2, 3)
    assert (by_request.temperature, by_request.max_tokens) == (0.9, 2)
    assert stops.stop == ("!", ";")


async def test_a_hat_over_the_limits_counts_as_the_limits(
    site: Site, client: httpx.AsyncClient
) -> None:
    site.registry.push("hot", Hat(sampling=Sampling(temperature=9, repetition_penalty=99)))
    await ask(client, "hot")
    await ask(client, "hot", temperature=0.5)
    by_hat, by_request = (sequence.params for sequence in site.engine.requests)
    assert (by_hat.temperature, by_hat.repetition_penalty) == (2, 10)
    assert (by_request.temperature, by_request.repetition_penalty) == (0.5, 10)


@pytest.mark.parametrize(("top_k", "given"), [(999, 999), (1000, 0), (2**40, 0), (-1, 0)])
async def test_a_top_k_that_leaves_nobody_out_is_none(
    site: Site, client: httpx.AsyncClient, top_k: int, given: int
) -> None:
    response = await ask(client, "pirate", top_k=top_k)
    assert response.status_code == 200, response.text
    assert site.engine.requests[0].params.top_k == given  # what a device keeps in 32 bits


async def test_parameters_reach_the_engine(site: Site, client: httpx.AsyncClient) -> None:
    response = await ask(
        client,
        "pirate",
        max_completion_tokens=3,
        temperature=0,
        top_p=0.5,
        top_k=-1,
        min_p=0.1,
        seed=7,
        presence_penalty=1,
        frequency_penalty=-1,
        repetition_penalty=1.1,
        logit_bias={"5": -100},
        stop="x",
        stop_token_ids=[3],
        min_tokens=1,
        ignore_eos=True,
        logprobs=True,
        top_logprobs=1,
        user="me",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
    )
    assert response.status_code == 200, response.text
    params = site.engine.requests[0].params
    assert params.max_tokens == 3
    assert params.is_greedy
    assert (params.top_p, params.top_k, params.min_p, params.seed) == (0.5, 0, 0.1, 7)
    assert (params.presence_penalty, params.frequency_penalty) == (1, -1)
    assert params.repetition_penalty == 1.1
    assert params.logit_bias == {5: -100}
    assert (params.stop, params.stop_token_ids) == (("x",), (3,))
    assert (params.min_tokens, params.ignore_eos, params.logprobs) == (1, True, 1)


async def test_logprobs(client: httpx.AsyncClient) -> None:
    response = await ask(client, "pirate", logprobs=True, top_logprobs=2, max_tokens=1)
    [entry] = response.json()["choices"][0]["logprobs"]["content"]
    assert entry["token"] == "Hello"
    assert entry["bytes"] == list(b"Hello")
    likely, impossible = entry["top_logprobs"]
    assert likely == {"token": "?", "logprob": -2.0, "bytes": [63]}
    assert impossible == {"token": "\ufffd", "logprob": -9999.0, "bytes": None}


async def test_no_max_tokens_takes_what_is_left(site: Site, client: httpx.AsyncClient) -> None:
    await ask(client, "pirate")
    [sequence] = site.engine.requests
    assert sequence.params.max_tokens == 64 - len(sequence.prompt_token_ids)


async def test_context_overflow_gives_both_numbers(client: httpx.AsyncClient) -> None:
    response = await ask(client, "pirate", max_tokens=63)
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["code"] == "context_length_exceeded"
    assert "64" in error["message"]
    assert "63 of completion" in error["message"]
    long = await ask(client, "pirate", messages=[{"role": "user", "content": "x" * 80}])
    assert long.json()["error"]["code"] == "context_length_exceeded"


async def test_template_refusal_is_a_bad_request(site: Site, client: httpx.AsyncClient) -> None:
    site.registry.push("strict", Hat(chat_template="{{ raise_exception('roles must alternate') }}"))
    response = await ask(client, "strict")
    assert response.status_code == 400
    assert "roles must alternate" in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == "messages"


async def test_base_without_template(site: Site, client: httpx.AsyncClient) -> None:
    site.base.tokenizer.chat_template = None
    response = await ask(client, "tiny-mistral")
    assert response.status_code == 400
    assert "/v1/completions" in response.json()["error"]["message"]


async def test_queue_full(site: Site, client: httpx.AsyncClient) -> None:
    site.engine.admission_error = QueueFull("The queue is full.", retry_after=2.5)
    for stream in (False, True):
        response = await ask(client, stream=stream)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "3"
        assert response.headers["x-hatstand-adapter"] == "sql@1"
        assert response.json()["error"]["type"] == "rate_limit_error"


async def test_load_failure(site: Site, client: httpx.AsyncClient) -> None:
    site.engine.admission_error = AdapterLoadError("sql@1 does not load: blob missing")
    response = await ask(client)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "adapter_load_failed"


async def test_unforeseen_errors_tell_nothing(
    site: Site, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    site.engine.error_after = (0, RuntimeError("secret path /root"))
    response = await ask(client)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "secret path" in caplog.text


async def test_a_registry_that_is_away_is_a_line_in_the_log(
    site: Site,
    client: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        raise RegistryUnreachable("the registry does not answer")

    monkeypatch.setattr(site.registry, "route", fail)
    response = await ask(client)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "registry_unreachable")
    assert "the registry does not answer" in caplog.text
    assert "Traceback" not in caplog.text


async def test_streams_openai_chunks(client: httpx.AsyncClient) -> None:
    response = await ask(client, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-hatstand-adapter"] == "sql@1"
    first, *contents, finish, usage, done = events(response)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["usage"] is None
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in contents)
    assert text == "Hello world!"
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert finish["choices"][0]["delta"] == {}
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in (first, *contents, finish, usage)}) == 1


async def test_stream_without_usage(client: httpx.AsyncClient) -> None:
    chunks = events(await ask(client, stream=True))
    assert all("usage" not in chunk for chunk in chunks[:-1])


async def test_error_in_mid_stream_is_an_event(site: Site, client: httpx.AsyncClient) -> None:
    site.engine.error_after = (2, RuntimeError("gone"))
    response = await ask(client, stream=True)
    assert response.status_code == 200
    assert events(response)[-1]["error"]["code"] == "internal_error"
    assert site.engine.num_running == 0


async def test_abort_by_the_engine_is_an_error(site: Site, client: httpx.AsyncClient) -> None:
    site.engine.ending = "abort"
    assert (await ask(client)).status_code == 503
    assert events(await ask(client, stream=True))[-1]["error"]["code"] == "unavailable"


async def test_token_ids_on_request(site: Site, client: httpx.AsyncClient) -> None:
    response = await ask(client, "pirate", return_token_ids=True)
    prompt = list(site.engine.requests[0].prompt_token_ids)
    assert response.json()["prompt_token_ids"] == prompt
    assert response.json()["choices"][0]["token_ids"] == [0, 1, 2, 3]
    chunks = events(await ask(client, "pirate", return_token_ids=True, stream=True))
    assert chunks[0]["prompt_token_ids"] == prompt
    ids = [i for chunk in chunks[1:-2] for i in chunk["choices"][0]["token_ids"]]
    assert ids == [0, 1, 2, 3]


async def test_leases_are_renewed_not_repeated(site: Site, client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await ask(client)
    [(digest, _, seconds)] = site.registry.leases
    assert digest == site.registry.lines["sql"][0].digest
    assert seconds == 1200
