"""Headers that choose: an adapter, and what to do while it is cold."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.server.api.fakes import Site

pytestmark = pytest.mark.anyio

HI = [{"role": "user", "content": "hi"}]


async def ask(client: httpx.AsyncClient, model: str, **headers: str) -> httpx.Response:
    named = {f"x-hatstand-{name}": value for name, value in headers.items()}
    body = {"model": model, "messages": HI}
    return await client.post("/v1/chat/completions", json=body, headers=named)


async def test_a_gateway_names_the_adapter_in_a_header(client: httpx.AsyncClient) -> None:
    reply = await ask(client, "tiny-mistral", adapter="sql@2")
    assert reply.headers["x-hatstand-adapter"] == "sql@2"
    reply = await ask(client, "sql@2", adapter="sql@2")
    assert reply.headers["x-hatstand-adapter"] == "sql@2"
    reply = await ask(client, "pirate", adapter="sql@2")
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "model"
    assert (await ask(client, "tiny-mistral", adapter="nobody")).status_code == 404


async def test_reject(site: Site, client: httpx.AsyncClient) -> None:
    reply = await ask(client, "sql", cold="reject")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "adapter_cold")
    assert reply.headers["retry-after"] == "1"  # loads have taken 0.3 s on average
    assert site.engine.requests == []
    await asyncio.sleep(0)  # it was loaded meanwhile
    assert (await ask(client, "sql", cold="reject")).status_code == 200


async def test_base(client: httpx.AsyncClient) -> None:
    reply = await ask(client, "sql", cold="base")
    assert reply.headers["x-hatstand-adapter"] == "tiny-mistral"
    reply = await ask(client, "sql", cold="base")
    assert reply.headers["x-hatstand-adapter"] == "sql@1"


async def test_stale(site: Site, client: httpx.AsyncClient) -> None:
    assert (await ask(client, "sql@2", cold="stale")).headers["x-hatstand-adapter"] == "sql@2"
    await client.post("/v1/load_lora_adapter", json={"lora_name": "sql"})
    site.registry.set_alias("sql", "prod", 2)
    assert (await ask(client, "sql", cold="stale")).headers["x-hatstand-adapter"] == "sql@1"
    await asyncio.sleep(0)
    assert (await ask(client, "sql", cold="stale")).headers["x-hatstand-adapter"] == "sql@2"


async def test_what_was_rolled_back_is_not_stale(client: httpx.AsyncClient) -> None:
    await client.post("/v1/load_lora_adapter", json={"lora_name": "sql@2"})
    assert (await ask(client, "sql", cold="stale")).headers["x-hatstand-adapter"] == "sql@1"


async def test_a_load_ahead_that_fails_is_nobodys_error(
    site: Site, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    site.engine.load_error = "no such file"
    assert (await ask(client, "sql", cold="base")).status_code == 200
    await asyncio.sleep(0)
    assert "sql@1 could not be loaded ahead: no such file" in caplog.text


async def test_wrong_policies_are_named(client: httpx.AsyncClient) -> None:
    reply = await ask(client, "sql", cold="maybe")
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "x-hatstand-cold"
