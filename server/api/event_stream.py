"""A stream of server-sent events, each sent as soon as it is made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .disconnect import ClientGone, while_connected

PING = b": ping\n\n"
_HEADERS = {"cache-control": "no-store", "connection": "keep-alive", "x-accel-buffering": "no"}


class EventStream(Response):
    """Sends encoded events until they end or the client has gone; then calls `ended`.

    sse-starlette's response opens a cancel scope for every event, which at a token an event is more
    than all the rest of one costs. Here an event is one message to the server below.

    ping_interval: seconds between comments, which keep proxies from closing a silent stream.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        headers: Mapping[str, str],
        ping_interval: float,
        ended: Callable[[], Awaitable[None]],
    ) -> None:
        self.status_code = 200
        self.background = None
        self._events = events
        self._ping_interval = ping_interval
        self._ended = ended
        self.init_headers({**_HEADERS, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        try:
            with contextlib.suppress(ClientGone):  # nobody is left to be told
                await while_connected(receive, self._send_all(send))
        finally:
            await self._ended()

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        pinging = asyncio.create_task(self._ping(send))
        try:
            async with contextlib.aclosing(self._events) as events:
                async for event in events:
                    await _send_part(send, event)
        finally:
            pinging.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ping(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._ping_interval)
            await _send_part(send, PING)


async def _send_part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
