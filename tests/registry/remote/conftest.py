"""The fixtures of a served registry, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.remote.connection import Connection
from registry.remote.registry import RemoteRegistry
from tests.registry.api.conftest import http, settings, three, url

__all__ = ["http", "settings", "three", "url"]


@pytest.fixture
def remote(url: str, tmp_path: Path) -> Iterator[RemoteRegistry]:
    client = RemoteRegistry(Connection(url), tmp_path / "client")
    yield client
    client.close()
