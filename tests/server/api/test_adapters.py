"""Loading, unloading, listing; pins and readiness."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from server.api import readiness
from server.engine.request import AdapterRef
from server.errors import AdapterLoadError
from server.settings import ApiSettings
from tests.server.api.fakes import FakeEngine, Site, make_site, open_client

pytestmark = pytest.mark.anyio


async def load(client: httpx.AsyncClient, **body: object) -> httpx.Response:
    return await client.post("/v1/load_lora_adapter", json=body)


async def unload(client: httpx.AsyncClient, name: str) -> httpx.Response:
    return await client.post("/v1/unload_lora_adapter", json={"lora_name": name})


async def test_load_and_unload(site: Site, client: httpx.AsyncClient) -> None:
    response = await load(client, lora_name="sql")
    assert response.status_code == 200
    assert response.text == "Success: LoRA adapter 'sql' added successfully (sql@1)."
    assert response.headers["content-type"].startswith("text/plain")
    assert set(site.engine.loaded) == {site.registry.lines["sql"][0].digest}
    response = await unload(client, "sql")
    assert response.text.startswith("Success: ")
    assert not site.engine.loaded


async def test_load_by_reference(site: Site, client: httpx.AsyncClient) -> None:
    response = await load(
        client, lora_name="sql", lora_path="sql@prod", load_inplace=True, pin=True
    )
    assert response.status_code == 200
    assert [adapter.pinned for adapter in site.engine.loaded.values()] == [True]


async def test_name_and_path_must_agree(site: Site, client: httpx.AsyncClient) -> None:
    response = await load(client, lora_name="sql", lora_path="sql@2")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "lora_path"
    assert "'sql' means sql@1" in response.json()["error"]["message"]
    assert not site.engine.loaded


@pytest.mark.parametrize("path", ["/etc/passwd", "../adapters/sql"])
async def test_paths_on_disk_are_no_references(client: httpx.AsyncClient, path: str) -> None:
    response = await load(client, lora_name="sql", lora_path=path)
    assert (response.status_code, response.json()["error"]["param"]) == (404, "lora_path")
    assert "registry push" in response.json()["error"]["message"]


async def test_a_name_that_is_not_there(client: httpx.AsyncClient) -> None:
    response = await load(client, lora_name="nobody")
    assert (response.status_code, response.json()["error"]["param"]) == (404, "lora_name")


async def test_base_cannot_be_loaded(client: httpx.AsyncClient) -> None:
    assert (await load(client, lora_name="tiny-mistral")).status_code == 400


async def test_unload_what_is_not_there(client: httpx.AsyncClient) -> None:
    response = await unload(client, "sql@1")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "adapter_not_found"
    assert (await unload(client, "nobody")).status_code == 404


async def test_bare_name_unloads_every_version(site: Site, client: httpx.AsyncClient) -> None:
    for name in ("sql@1", "sql@2", "pirate"):
        await load(client, lora_name=name)
    await unload(client, "sql")
    assert [adapter.label for adapter in site.engine.loaded.values()] == ["pirate@1"]


async def test_a_version_that_two_names_have_is_unloaded_by_either(
    site: Site, client: httpx.AsyncClient
) -> None:
    site.registry.push("lsq")
    assert site.registry.lines["lsq"][0].digest == site.registry.lines["sql"][0].digest
    await load(client, lora_name="sql")
    assert (await unload(client, "lsq")).is_success
    assert not site.engine.loaded


async def test_models_are_listed(site: Site, client: httpx.AsyncClient) -> None:
    data = (await client.get("/v1/models")).json()["data"]
    cards = {card["id"]: card for card in data}
    assert list(cards) == ["tiny-mistral", "sql", "sql@prod", "pirate"]  # not another base's
    assert cards["tiny-mistral"]["parent"] is None
    assert cards["sql"]["parent"] == "tiny-mistral"
    assert cards["sql"]["root"] == "sql@1"
    assert cards["sql"]["digest"] == site.registry.lines["sql"][0].digest
    assert cards["sql"]["max_model_len"] == 64


async def test_one_model(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models/sql@2")
    assert response.json()["root"] == "sql@2"
    assert response.headers["x-hatstand-adapter"] == "sql@2"
    assert (await client.get("/v1/models/some/thing")).status_code == 404


async def test_ready_without_pins(site: Site, client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).status_code == 200
    site.engine.is_healthy = False
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reasons"] == ["the engine has stopped"]
    assert (await client.get("/healthz")).status_code == 503


class SlowEngine(FakeEngine):
    """Fails the first load, and lets the second one wait."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0
        self.may_load = asyncio.Event()

    async def load_adapter(self, adapter: AdapterRef, *, pin: bool = False) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise AdapterLoadError("the disk is away")
        await self.may_load.wait()
        await super().load_adapter(adapter, pin=pin)


async def test_readiness_waits_for_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PIN_RETRY", 0.01)
    engine = SlowEngine()
    site = make_site(ApiSettings(pins=("sql@prod",)), engine=engine)
    async with open_client(site.app) as client:
        while engine.attempts < 2:
            await asyncio.sleep(0.005)
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["reasons"] == ["pinned adapter sql@prod: the disk is away"]
        engine.may_load.set()
        while not engine.loaded:
            await asyncio.sleep(0.005)
        assert (await client.get("/readyz")).status_code == 200
        assert [adapter.pinned for adapter in engine.loaded.values()] == [True]
        engine.loaded.clear()
        assert (await client.get("/readyz")).json()["reasons"] == [
            "pinned adapter sql@prod: not resident"
        ]


async def test_unloaded_pin_is_no_longer_asked_for() -> None:
    site = make_site(ApiSettings(pins=("sql",)))
    async with open_client(site.app) as client:
        while not site.engine.loaded:
            await asyncio.sleep(0.005)
        await unload(client, "sql")
        assert (await client.get("/readyz")).status_code == 200
