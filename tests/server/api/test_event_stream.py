"""A stream whose first token is long in coming: it is opened, and kept alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.engine.request import GenerationDelta, GenerationRequest
from server.errors import QueueFull
from server.settings import ApiSettings
from tests.server.api.fakes import FakeEngine, Site, make_site, open_client

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {
    "model": "sql",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
}


class SilentEngine(FakeEngine):
    """Does not begin before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_begin = asyncio.Event()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        await self.may_begin.wait()
        async for delta in super().generate(request):
            yield delta


class Pinged:
    """Lets an engine begin once a ping was sent."""

    def __init__(self, app: ASGIApp, engine: SilentEngine) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def listened(message: Message) -> None:
            await send(message)
            if b": ping" in message.get("body", b""):
                self._engine.may_begin.set()

        await self._app(scope, receive, listened)


@pytest.fixture
def silent() -> Site:
    """Whose engine begins after the first ping."""
    engine = SilentEngine()
    site = make_site(ApiSettings(ping_interval=0.02), engine)
    site.app.add_middleware(Pinged, engine=engine)
    return site


async def test_silent_start_opens_the_stream_and_keeps_it_alive(silent: Site) -> None:
    async with open_client(silent.app) as client:
        body = {**CHAT, "max_tokens": 1}
        response = await client.post("/v1/chat/completions", json=body)
    assert response.text.count(": ping") >= 1
    assert response.text.rstrip().endswith("data: [DONE]")


async def test_late_refusal_becomes_an_event(silent: Site) -> None:
    silent.engine.error_after = (0, QueueFull("full"))
    async with open_client(silent.app) as client:
        response = await client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 200
    assert '"code": "queue_full"' in response.text
