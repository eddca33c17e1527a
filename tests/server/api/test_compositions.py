"""`adapters` in a request: what is run, whose hat it wears, and what the answer says of it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest

from server.engine.composition import is_composed
from server.engine.request import AdapterRef
from server.errors import CompositionTooLarge
from tests.server.api.fakes import BASE_FINGERPRINT, Site

pytestmark = pytest.mark.anyio

SUM = [{"name": "sql", "scale": 0.7}, {"name": "pirate@1", "scale": 0.3}]
LABEL = "pirate@1*0.3+sql@1*0.7"


async def ask(
    client: httpx.AsyncClient, model: str, adapters: Any, **headers: str
) -> httpx.Response:
    named = {f"x-hatstand-{name}": value for name, value in headers.items()}
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "adapters": adapters}
    return await client.post("/v1/chat/completions", json=body, headers=named)


def digest_of(site: Site, *parts: tuple[str, int, float]) -> str:
    """As docs/api.md says that anybody can work it out."""
    lines = sorted(
        f"{site.registry.lines[name][number - 1].digest}*{scale!r}" for name, number, scale in parts
    )
    return "composition:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


async def test_the_engine_gets_the_sum_and_the_answer_says_so(
    site: Site, client: httpx.AsyncClient
) -> None:
    reply = await ask(client, "sql", SUM)
    digest = digest_of(site, ("sql", 1, 0.7), ("pirate", 1, 0.3))
    assert reply.status_code == 200
    assert reply.headers["x-hatstand-adapter"] == LABEL
    assert reply.headers["x-hatstand-digest"] == digest
    body = reply.json()
    assert body["model"] == "sql"
    base, composition = BASE_FINGERPRINT[7:19], digest.partition(":")[2][:12]
    assert body["system_fingerprint"] == f"base-{base}_composition-{composition}"
    adapter = site.engine.requests[0].adapter
    assert adapter is not None
    assert (adapter.digest, adapter.label) == (digest, LABEL)
    assert {(part.adapter.label, part.scale) for part in adapter.parts} == {
        ("sql@1", 0.7),
        ("pirate@1", 0.3),
    }


async def test_every_version_of_a_sum_is_leased(site: Site, client: httpx.AsyncClient) -> None:
    await ask(client, "sql", SUM)
    leased = {digest for digest, _, _ in site.registry.leases}
    assert leased == {site.registry.lines[name][0].digest for name in ("sql", "pirate")}


async def test_the_model_says_whose_hat(site: Site, client: httpx.AsyncClient) -> None:
    for model in ("sql", "pirate", "tiny-mistral"):
        assert (await ask(client, model, SUM)).status_code == 200
    prompts = [
        site.base.tokenizer.decode(list(request.prompt_token_ids))
        for request in site.engine.requests
    ]
    assert ["Write SQL." in prompt for prompt in prompts] == [True, False, False]
    assert len({request.adapter for request in site.engine.requests}) == 1
    assert [request.params.stop for request in site.engine.requests] == [(";",), (), ()]


async def test_an_alias_means_what_it_means_now(site: Site, client: httpx.AsyncClient) -> None:
    assert (await ask(client, "sql", SUM)).headers["x-hatstand-adapter"] == LABEL
    site.registry.set_alias("sql", "prod", 2)
    moved = await ask(client, "sql", SUM)
    assert moved.headers["x-hatstand-adapter"] == "pirate@1*0.3+sql@2*0.7"


async def test_one_adapter_with_a_scale(site: Site, client: httpx.AsyncClient) -> None:
    reply = await ask(client, "sql", [{"name": "sql@2", "scale": 0.5}])
    assert reply.status_code == 400  # sql means sql@1
    reply = await ask(client, "sql@2", [{"name": "sql@2", "scale": 0.5}])
    assert reply.headers["x-hatstand-adapter"] == "sql@2*0.5"
    reply = await ask(client, "sql@2", [{"name": "sql@2"}])
    assert reply.headers["x-hatstand-adapter"] == "sql@2"
    assert site.engine.requests[-1].adapter == AdapterRef(
        site.registry.lines["sql"][1].digest, "sql@2"
    )


async def test_no_adapters_is_none_said(client: httpx.AsyncClient) -> None:
    for nothing in ([], None):
        assert (await ask(client, "sql", nothing)).headers["x-hatstand-adapter"] == "sql@1"


async def test_a_gateways_header_says_whose_hat(site: Site, client: httpx.AsyncClient) -> None:
    reply = await ask(client, "tiny-mistral", SUM, adapter="sql")
    assert reply.headers["x-hatstand-adapter"] == LABEL
    prompt = site.base.tokenizer.decode(list(site.engine.requests[0].prompt_token_ids))
    assert "Write SQL." in prompt


@pytest.mark.parametrize(
    ("model", "adapters", "param", "status"),
    [
        ("sql", [{"name": "sql"}, {"name": "sql@1"}], "adapters.1", 400),
        ("sql", [{"name": "tiny-mistral"}], "adapters.0.name", 400),
        ("sql", [{"name": "sql"}, {"name": "nobody"}], "adapters.1.name", 404),
        ("sql", [{"name": "sql"}, {"name": "pirate@9"}], "adapters.1.name", 404),
        ("sql", [{"name": "odd"}], "adapters.0.name", 409),
        ("sql", [{"name": "pirate"}], "model", 400),
        ("nobody", [{"name": "pirate"}], "model", 404),
        ("sql", [{"name": "sql", "scale": 10.5}], "adapters.0.scale", 400),
        ("sql", [{"name": "sql", "scale": "1"}], "adapters.0.scale", 400),
        ("sql", [{"name": "sql", "weight": 1}], "adapters.0.weight", 400),
        ("sql", [{"scale": 1}], "adapters.0.name", 400),
        ("sql", [{"name": f"a{n}"} for n in range(9)], "adapters", 400),
        ("sql", "pirate", "adapters", 400),
    ],
)
async def test_what_does_not_go_together_is_named(
    model: str, adapters: Any, param: str, status: int, client: httpx.AsyncClient
) -> None:
    reply = await ask(client, model, adapters)
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)


async def test_a_scale_is_a_number(client: httpx.AsyncClient) -> None:
    for number in ("NaN", "Infinity", "1e400"):
        reply = await client.post(
            "/v1/completions",
            content=f'{{"model":"sql","prompt":"x","adapters":[{{"name":"sql","scale":{number}}}]}}',
        )
        assert reply.status_code == 400, number


async def test_too_high_a_rank_is_the_requests_fault(site: Site, client: httpx.AsyncClient) -> None:
    site.engine.admission_error = CompositionTooLarge("rank 24 together", param="adapters")
    reply = await ask(client, "sql", SUM)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "adapters")


async def test_cold_sums(site: Site, client: httpx.AsyncClient) -> None:
    reply = await ask(client, "sql", SUM, cold="base")
    assert reply.headers["x-hatstand-adapter"] == "tiny-mistral"
    await asyncio.sleep(0)  # it was loaded meanwhile
    assert [held.label for held in site.engine.loaded.values()] == [LABEL]
    for policy in ("reject", "stale", "base"):
        reply = await ask(client, "sql", SUM, cold=policy)
        assert reply.headers["x-hatstand-adapter"] == LABEL
    # Neither is a version older than the other.
    other = [{"name": "pirate", "scale": 0.5}, {"name": "sql"}]
    assert (await ask(client, "pirate", other, cold="stale")).status_code == 200
    reply = await client.post(
        "/v1/completions",
        json={"model": "pirate", "prompt": "x"},
        headers={"x-hatstand-cold": "stale"},
    )
    assert reply.headers["x-hatstand-adapter"] == "pirate@1"


async def test_unloading_an_adapter_unloads_its_sums(site: Site, client: httpx.AsyncClient) -> None:
    for name in ("sql", "sql@1", "pirate@1"):
        await ask(client, "sql", SUM, cold="base")
        await asyncio.sleep(0)
        assert any(map(is_composed, site.engine.loaded))
        await client.post("/v1/load_lora_adapter", json={"lora_name": name})
        assert len(site.engine.loaded) == 2
        reply = await client.post("/v1/unload_lora_adapter", json={"lora_name": name})
        assert reply.status_code == 200
        assert site.engine.loaded == {}


async def test_metrics_name_sums_where_they_are_no_models(client: httpx.AsyncClient) -> None:
    await client.post("/v1/load_lora_adapter", json={"lora_name": "sql"})
    await ask(client, "sql", SUM, cold="base")
    await asyncio.sleep(0)
    await ask(client, "sql", SUM)
    metrics = (await client.get("/metrics")).text
    requests = next(line for line in metrics.splitlines() if "lora_requests_info{" in line)
    assert 'running_lora_adapters="sql@1,sql@prod,sql"' in requests
    assert "pirate" not in requests
    # Four slots: two adapters in them, one on its way; so one name less than max_lora is free.
    assert 'max_lora="5"' in requests
    assert "vllm:num_gpu_loaded_lora_adapters 2.0" in metrics
    assert f'adapter="{LABEL}"' in metrics
    assert 'hatstand_adapter_generated_tokens_total{adapter="compositions"} 4.0' in metrics


async def test_other_endpoints_take_sums_too(site: Site, client: httpx.AsyncClient) -> None:
    for path, asked in (("/v1/completions", {"prompt": "x"}), ("/v1/responses", {"input": "x"})):
        body = {"model": "sql", "adapters": SUM, **asked}
        reply = await client.post(path, json=body)
        assert reply.headers["x-hatstand-adapter"] == LABEL
    assert len({request.adapter for request in site.engine.requests}) == 1
