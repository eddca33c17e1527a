"""A server that follows a registry elsewhere, and one that carries its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from clients import Hatstand
from registry import Registry
from registry.api.app import create_app
from registry.api.settings import RegistryApiSettings
from registry.bases import read_base
from registry.remote.registry import RemoteRegistry
from registry.tracing import Tracing
from server.api.keys import parse_keys
from server.registry_link import RegistryLink
from server.serve import serving
from server.settings import ApiSettings, EngineOptions, Settings
from tests.support.tiny import TinyAdapter, write_tiny_base
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ENGINE = EngineOptions(device="cpu", kv_memory=4 << 20, max_rank=8, max_slots=2)


@contextmanager
def registry_server(
    registry: Registry, port: int = 0, tracing: Tracing | None = None
) -> Iterator[str]:
    settings = RegistryApiSettings(is_open=True, event_interval=0.02)
    config = uvicorn.Config(
        create_app(registry, settings, tracing=tracing),
        port=port,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_base(tmp_path / "bases" / "tiny")


def ask(client: Hatstand) -> str:
    return client.chat("sql", "x", max_tokens=1).adapter


def get(url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.get(url, headers=headers, timeout=PATIENCE)


def test_a_server_follows_a_registry_and_outlives_it(base: Path, tmp_path: Path) -> None:
    registry, record = Registry.open(tmp_path / "registry"), read_base(base)
    folders = [TinyAdapter("sql", seed=seed).write(base, tmp_path / f"{seed}") for seed in (0, 1)]
    registry.push(folders[0], "sql", base=record, alias="prod")
    with registry_server(registry) as url:
        settings = Settings(base=str(base), registry=url, port=0, engine=ENGINE)
        running = serving(settings)
        where = running.__enter__()
        client = Hatstand(where)
        assert ask(client) == "sql@1"
        assert "hatstand_registry_connected 1.0" in get(f"{where}/metrics").text
        holder = {lease.digest for lease in registry.leases()}
        assert holder == {registry.resolve("sql@1").digest}
        registry.push(folders[1], "sql", base=record, alias="prod")
        eventually(lambda: ask(client) == "sql@2")
    eventually(lambda: "hatstand_registry_connected 0.0" in get(f"{where}/metrics").text)
    assert ask(client) == "sql@2"
    ready = get(f"{where}/readyz")
    assert ready.status_code == 200
    assert "serving what is known here" in ready.json()["warnings"][0]
    client.close()
    running.__exit__(None, None, None)


def test_a_registry_that_was_not_there_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistyped folder looks like a registry in which nothing was pushed yet."""
    for _ in range(2):
        RegistryLink.open(tmp_path / "mistyped").close()
    assert [record.message for record in caplog.records if "mistyped" in record.message] == [
        f"there was no registry at {tmp_path / 'mistyped'}: an empty one begins there"
    ]


def test_an_embedded_registry_is_reached_through_the_server(base: Path, tmp_path: Path) -> None:
    folder = TinyAdapter("sql", seed=0).write(base, tmp_path / "adapter")
    settings = Settings(base=str(base), registry=tmp_path / "registry", port=0, engine=ENGINE)
    with serving(settings) as url, Hatstand(url) as client:
        remote = RemoteRegistry.open(f"{url}/registry")
        remote.push(folder, "sql", base=read_base(base), alias="prod")
        assert ask(client) == "sql@1"
        assert remote.resolve("sql").number == 1
        assert get(f"{url}/registry/openapi.json").json()["info"]["title"]
        assert get(f"{url}/registry/nothing").json()["error"]["code"] == "not_found"
        remote.close()
        counted = httpx.get(f"{url}/metrics").text
        for route, status in (("/registry/openapi.json", 200), ("/registry", 404)):
            assert f'hatstand_requests_total{{route="{route}",status="{status}"}} 1.0' in counted
        assert 'route="/openapi.json"' not in counted


def test_a_server_with_keys_does_not_leave_the_registry_open(base: Path, tmp_path: Path) -> None:
    api = ApiSettings(keys=parse_keys(["secret-key"], where="here"))
    where = tmp_path / "registry"
    settings = Settings(base=str(base), registry=where, port=0, engine=ENGINE, api=api)
    with serving(settings) as url:
        assert get(f"{url}/registry/adapters").status_code == 401
        headers = {"authorization": "Bearer secret-key"}
        assert get(f"{url}/registry/adapters", headers=headers).status_code == 401
