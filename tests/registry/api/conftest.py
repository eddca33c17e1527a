"""A registry server in a thread, reached over a real socket."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from registry import BaseRecord, Registry
from registry.api.app import create_app
from registry.api.settings import RegistryApiSettings
from registry.canonical import digest_of
from tests.registry.making import make_adapter
from tests.support.waiting import PATIENCE

Serve = Callable[[ASGIApp], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """The app behind a socket of this machine; yields its URL."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def settings() -> RegistryApiSettings:
    return RegistryApiSettings(is_open=True, event_interval=0.02, decide_interval=0.02)


@pytest.fixture
def url(registry: Registry, settings: RegistryApiSettings) -> Iterator[str]:
    with serving(create_app(registry, settings)) as where:
        yield where


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def three(registry: Registry, base: BaseRecord, tmp_path: Path) -> list[str]:
    """The digests of three versions of `sql`."""
    return [
        registry.push(make_adapter(tmp_path / f"v{seed}", seed=seed, lock=base), "sql").digest
        for seed in range(3)
    ]


def upload(http: httpx.Client, content: bytes) -> str:
    """Put bytes into the store by hand; returns their digest."""
    digest = digest_of(content)
    location = http.post("/blobs/uploads").headers["location"]
    headers = {"content-range": f"0-{len(content) - 1}"}
    assert http.patch(location, content=content, headers=headers).status_code == 202
    assert http.put(location, params={"digest": digest}).status_code == 201
    return digest


def error(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a refused request, which must have that status."""
    assert response.status_code == status, response.text
    values: dict[str, Any] = response.json()["error"]
    return values
