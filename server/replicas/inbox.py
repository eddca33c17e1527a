"""A replica's side of the handover: connections come out of a channel instead of a listener."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.draining import DrainingServer
from server.api.witnessed import VISITOR
from server.supervision import Notice, Tell

from .handover import Handover, Lost, receive

REPLICA = "x-hatstand-replica"


class Inbox:
    """Gives handed-over connections to a server, and reports on them.

    The server leaves when it is told to through the channel, or when its parent is gone. Signals
    are the parent's to act on, since a terminal or systemd sends them to every process at once.
    """

    def __init__(self, orders: socket.socket, tell: Tell, number: int) -> None:
        self._orders = orders
        self._tell = tell
        self._number = number
        self._server: DrainingServer | None = None
        self._adopting: set[asyncio.Task[None]] = set()

    def feed(self, server: DrainingServer) -> None:
        """Have it answer what comes here; `open` has to be what it calls once it is up."""
        self._server = server
        server.config.app = Reporting(server.config.app, self._tell, self._number)

    def open(self) -> None:
        """Take connections from now on; called on the server's event loop."""
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="inbox", daemon=True).start()
        self._tell(Notice("serving"))

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a thread of its own, so that large requests come in beside the loop.

        It goes on once the server is leaving: that answers until the drain's delay is over, tells
        whoever comes later so, and is to hear that it shall leave at once.
        """
        is_leaving = False
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the process is about to
            while (order := receive(self._orders)) is not None:
                if isinstance(order, Handover):
                    loop.call_soon_threadsafe(self._begin, order)
                elif isinstance(order, Lost):
                    loop.call_soon_threadsafe(self._tell, Notice("lost", number=order.number))
                else:
                    is_leaving = True
                    loop.call_soon_threadsafe(self._leave)
            if not is_leaving:
                loop.call_soon_threadsafe(self._leave)

    def _begin(self, handover: Handover) -> None:
        task = asyncio.get_running_loop().create_task(self._adopt(handover))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, handover: Handover) -> None:
        server = self._running
        loop = asyncio.get_running_loop()
        config = server.config

        def resumed() -> Resumed:
            protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config,
                server_state=server.server_state,
                app_state={**server.lifespan.state, VISITOR: handover.number},
                _loop=loop,
            )
            return Resumed(protocol, handover, self._tell)

        handover.connection.setblocking(False)
        await loop.connect_accepted_socket(resumed, handover.connection)

    def _leave(self) -> None:
        self._running.handle_exit(signal.SIGTERM, None)

    @property
    def _running(self) -> DrainingServer:
        assert self._server is not None, "opened before it serves"
        return self._server


class Resumed(asyncio.Protocol):
    """A connection of which another process has read the beginning; its end is noted."""

    def __init__(self, protocol: asyncio.Protocol, handover: Handover, tell: Tell) -> None:
        self._protocol = protocol
        self._handover = handover
        self._tell = tell

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)
        self._protocol.data_received(self._handover.raw)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        self._tell(Notice("ended", number=self._handover.number))


class Reporting:
    """Notes that an answer has begun, after which its connection is closed.

    The next request on it may be for an adapter that another replica holds.
    """

    def __init__(self, app: Any, tell: Tell, number: int) -> None:
        self._app: ASGIApp = app
        self._tell = tell
        self._number = number

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visitor = scope.get("state", {}).pop(VISITOR, None)
        if visitor is None:
            await self._app(scope, receive, send)
            return

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["connection"] = "close"
                headers[REPLICA] = str(self._number)
                self._tell(Notice("started", number=visitor))
            await send(message)

        await self._app(scope, receive, send_noted)
