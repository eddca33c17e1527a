"""What the server says about itself, and the layers around every route."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from server.api import request_names
from server.api.request_names import RequestNames
from server.api.token_meter import TokenMeter
from server.engine.request import AdapterRef
from server.settings import ApiSettings
from tests.server.api.fakes import Site, make_site, open_client
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio

CHAT = {"model": "sql", "messages": [{"role": "user", "content": "hi"}]}


async def samples(client: httpx.AsyncClient) -> dict[str, list[tuple[dict[str, str], float]]]:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def test_own_metrics(client: httpx.AsyncClient) -> None:
    await client.post("/v1/chat/completions", json=CHAT)
    await client.post("/v1/chat/completions", json={})
    await client.get("/no/such/path")
    await client.get("/console/app.js")
    await client.get("/console/vendor/preact.mjs")
    await client.get("/console/nothing.js")
    found = await samples(client)
    requests = {
        (lb["route"], lb["status"]): value for lb, value in found["hatstand_requests_total"]
    }
    assert requests["/v1/chat/completions", "200"] == 1
    assert requests["/v1/chat/completions", "400"] == 1
    assert requests["none", "404"] == 1
    assert (requests["/console", "200"], requests["/console", "404"]) == (2, 1)
    assert found["hatstand_time_to_first_token_seconds_count"] == [({}, 1)]
    assert found["hatstand_time_per_output_token_seconds_count"] == [({}, 1)]
    assert found["hatstand_sequences_finished_total"] == [({"reason": "stop"}, 1)]
    assert found["hatstand_kv_usage_ratio"] == [({}, 0.25)]
    assert found["hatstand_generated_tokens_total"] == [({}, 42)]
    assert found["hatstand_adapter_evictions_total"] == [({}, 1)]


async def test_gauges_of_the_endpoint_picker(client: httpx.AsyncClient) -> None:
    for name in ("sql", "pirate"):
        await client.post("/v1/load_lora_adapter", json={"lora_name": name})
    found = await samples(client)
    model = {"model_name": "tiny-mistral"}
    assert found["vllm:num_requests_waiting"] == [(model, 3)]
    assert found["vllm:num_requests_running"] == [(model, 0)]
    assert found["vllm:kv_cache_usage_perc"] == [(model, 0.25)]
    assert found["vllm:cache_config_info"] == [({"block_size": "16", "num_gpu_blocks": "100"}, 1)]
    [(labels, timestamp)] = found["vllm:lora_requests_info"]
    assert labels == {
        "max_lora": "7",  # 4 slots, and 3 names more than adapters
        "running_lora_adapters": "sql@1,sql@prod,sql,pirate@1,pirate",
        "waiting_lora_adapters": "late@1",
    }
    assert timestamp > 1.7e9
    loaded = {lb["adapter_name"]: lb for lb, _ in found["vllm:lora_adapter_loaded"]}
    assert loaded["sql@1"] == {
        "adapter_name": "sql@1",
        "level": "gpu",
        "pinned": "false",
        "rank": "8",
    }
    assert set(loaded) == {"sql@1", "sql@prod", "sql", "pirate@1", "pirate"}
    assert found["vllm:num_gpu_loaded_lora_adapters"] == [({}, 2)]
    resident = {lb["adapter"] for lb, _ in found["hatstand_adapter_resident"]}
    assert resident == {"sql@1", "pirate@1"}


async def test_an_adapter_on_its_way_is_announced_under_every_name(
    site: Site, client: httpx.AsyncClient
) -> None:
    digest = site.registry.lines["sql"][0].digest
    site.engine.loading = [AdapterRef(digest, "sql@1")]
    [(labels, _)] = (await samples(client))["vllm:lora_requests_info"]
    assert labels["waiting_lora_adapters"] == "late@1,sql@1,sql@prod,sql"


async def test_a_version_with_two_labels_has_the_names_of_both_once_they_were_asked_for(
    site: Site, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_names, "NAMES_LAST", -1.0)
    site.registry.push("lsq")  # the same letters: to the fake, the same version
    await client.post("/v1/load_lora_adapter", json={"lora_name": "sql"})
    for expected in ("sql@1,sql@prod,sql", "sql@1,sql@prod,sql,lsq@1,lsq"):
        [(labels, _)] = (await samples(client))["vllm:lora_requests_info"]
        assert labels["running_lora_adapters"] == expected
        await client.post("/v1/completions", json={"model": "lsq", "prompt": "hi"})
    assert labels["max_lora"] == "8"  # 4 slots, and 4 names more than adapters


async def test_names_are_remembered_of_so_many_versions(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_names, "REMEMBERED", 1)
    names = RequestNames(site.registry)  # type: ignore[arg-type]
    sql, pirate = (site.registry.lines[name][0] for name in ("sql", "pirate"))
    site.registry.push("lsq")
    names.note(site.registry.lines["lsq"][0])  # type: ignore[arg-type]
    names.note(pirate)  # type: ignore[arg-type]
    assert names.of(AdapterRef(sql.digest, "sql@1")) == ["sql@1", "sql@prod", "sql"]
    assert names.of(AdapterRef(pirate.digest, "pirate@1")) == ["pirate@1", "pirate"]
    site.registry.set_alias("sql", "late", 1)
    assert names.of(AdapterRef(sql.digest, "sql@1")) == ["sql@1", "sql@prod", "sql@late", "sql"]


async def test_load_times_are_a_histogram_by_transition(client: httpx.AsyncClient) -> None:
    found = await samples(client)
    load, activate = {"transition": "load"}, {"transition": "activate"}
    counts = found["vllm:lora_adapter_load_seconds_count"]
    assert counts == [(load, 2), (activate, 0)]
    [total, _] = found["vllm:lora_adapter_load_seconds_sum"]
    assert total == (load, pytest.approx(0.6))
    buckets = {
        labels["le"]: value
        for labels, value in found["vllm:lora_adapter_load_seconds_bucket"]
        if labels["transition"] == "load"
    }
    assert (buckets["0.1"], buckets["0.25"], buckets["0.5"], buckets["+Inf"]) == (0, 1, 2, 2)


async def test_recent_batches(client: httpx.AsyncClient) -> None:
    assert (await client.get("/debug/batches")).json() == {
        "num_steps": 7,
        "batches": [{"base": 1, "sql@2": 3}],
    }


async def test_state(client: httpx.AsyncClient) -> None:
    await client.post("/v1/load_lora_adapter", json={"lora_name": "sql", "pin": True})
    await client.post("/v1/chat/completions", json=CHAT)
    reply = await client.get("/debug/state")
    assert reply.headers["cache-control"] == "no-store"
    state = reply.json()
    assert state["base"] == "tiny-mistral"
    assert state["queue"] == {"running": 0, "waiting": 3, "limit": 10}
    assert state["kv"] == {"blocks": 100, "free": 75, "block_size": 16, "usage": 0.25}
    [resident] = state["slots"]["resident"]
    assert (resident["label"], resident["level"], resident["pinned"]) == ("sql@1", "slot", True)
    assert state["slots"]["loading"] == ["late@1"]
    assert state["tokens"] == {"sql@1": 4}
    assert state["moves"] == [{"at": 1_767_000_000.0, "adapter": "sql@2", "kind": "slot"}]
    found = await samples(client)
    assert found["hatstand_adapter_generated_tokens_total"] == [({"adapter": "sql@1"}, 4)]


def test_tokens_are_counted_for_a_bounded_number_of_adapters() -> None:
    meter = TokenMeter(most_labels=2)
    for label, tokens in (("a@1", 5), ("b@1", 1), ("a@1", 1), ("c@1", 2), ("b@1", 3)):
        meter.add(label, tokens)
    assert meter.tokens == {"c@1": 2, "b@1": 3, "others": 7}
    assert sum(meter.tokens.values()) == 12


async def test_openapi_describes_every_route(site: Site, client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    paths = set(document["paths"]) | {"/", "/console", "/openapi.json"}
    routes = {route.path.replace(":path", "") for route in site.app.routes}  # type: ignore[attr-defined]
    assert paths == routes
    chat = document["components"]["schemas"]["ChatBody"]
    assert chat["properties"]["best_of"]["enum"] == [1, None]
    assert {"model", "messages"} <= set(chat["required"])
    text = str(document)
    names = {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])


async def test_request_ids(client: httpx.AsyncClient) -> None:
    kept = await client.get("/healthz", headers={"x-request-id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    replaced = await client.get("/healthz", headers={"x-request-id": "a b" * 100})
    assert replaced.headers["x-request-id"].startswith("req_")


async def test_wrong_path_and_method(client: httpx.AsyncClient) -> None:
    missing = await client.get("/v2/models")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = await client.get("/v1/chat/completions")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


async def test_body_limit() -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 100

    async with open_client(make_site(ApiSettings(max_body=1000)).app) as client:
        declared = await client.post("/v1/completions", content=b" " * 1001)
        counted = await client.post("/v1/completions", content=chunks())
    for response in (declared, counted):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "payload_too_large"


@pytest.mark.parametrize("stream", [False, True])
async def test_deadline(stream: bool) -> None:
    site = make_site(ApiSettings(request_timeout=2.0))
    site.engine.gate = asyncio.Event()
    async with open_client(site.app) as client:
        response = await client.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    if stream:
        assert '"code": "timeout"' in response.text.splitlines()[-2]
    else:
        assert response.status_code == 504
    assert site.engine.num_running == 0
    assert len(site.engine.aborted) == 1


async def test_draining_takes_nothing_new_and_finishes_the_rest(site: Site) -> None:
    site.engine.gate = asyncio.Event()
    async with open_client(site.app) as client:
        running = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        while not site.engine.num_running:
            await asyncio.sleep(0.005)
        site.readiness.begin_drain()
        assert site.readiness.num_in_flight == 1
        refused = await client.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert (await client.get("/readyz")).json()["reasons"] == ["the server is draining"]
        assert (await client.get("/healthz")).status_code == 200
        site.engine.gate.set()
        assert (await running).status_code == 200
        assert site.readiness.num_in_flight == 0
    assert site.engine.is_stopped


@pytest.mark.parametrize("stream", [False, True])
async def test_past_the_drain_deadline_requests_are_cut(site: Site, stream: bool) -> None:
    site.engine.gate = asyncio.Event()
    async with open_client(site.app) as client:
        body = {**CHAT, "stream": stream}
        running = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        while not site.engine.num_running:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        site.readiness.cut()
        response = await running
    assert '"unavailable"' in response.text
    assert response.status_code == (200 if stream else 503)
    assert site.engine.num_running == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_client_that_leaves_at_once_leaves_nothing(site: Site, stream: bool) -> None:
    """Straight ASGI: the disconnect is there before the first token."""
    site.engine.gate = asyncio.Event()
    body = (b'{"model":"sql","messages":[{"role":"user","content":"x"}],"stream":%s}') % (
        b"true" if stream else b"false"
    )
    inbox: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if inbox:
            return inbox.pop()
        while not site.engine.num_running:
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [],
        "query_string": b"",
    }
    async with asyncio.timeout(PATIENCE):
        await site.app(scope, receive, send)
    assert site.engine.num_running == 0
    assert len(site.engine.aborted) == 1
