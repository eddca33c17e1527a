from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.route_pattern import route_pattern

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def answer(_request: Request) -> Response:
    return Response()


INNER = Starlette(routes=[Route("/healthz", answer), Route("/adapters/{name}", answer)])
APP = Starlette(routes=[Route("/healthz", answer), Mount("/registry", INNER)])


class Patterns:
    """Around an app: the pattern of each request, in turn."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)
        self.seen.append(route_pattern(scope))


@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
async def test_routes_are_told_apart_by_the_mounts_they_lie_below(root_path: str) -> None:
    patterns = Patterns(APP)
    transport = httpx.ASGITransport(app=patterns, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in ("healthz", "registry/healthz", "registry/adapters/sql", "registry/no", "no"):
            await client.get(f"{root_path}/{path}")
        await client.post(f"{root_path}/registry/healthz")  # 405
    below = ["/registry/healthz", "/registry/adapters/{name}", "/registry"]
    assert patterns.seen == ["/healthz", *below, "", "/registry/healthz"]
