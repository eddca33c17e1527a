"""Fixtures around the fakes: a site, a client into it, a live server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.server.api.fakes import LiveServer, Site, make_site, open_client


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site() -> Site:
    return make_site()


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(site.app) as client:
        yield client


@pytest.fixture
def live(site: Site) -> Iterator[LiveServer]:
    with LiveServer(site) as server:
        yield server
