"""uvicorn with a polite end: on SIGTERM take nothing new, finish what runs, then leave."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from server.errors import EngineStopped
from server.interpreter import settle_interpreter
from server.last_words import Witness

from .heads import BoundedHeads
from .readiness import Readiness
from .silence import FILES_FOR_OTHERS, SilentConnections, file_limit
from .witnessed import WitnessedHttp

logger = logging.getLogger(__name__)

LAST_WORDS = 2  # seconds for answers that were cut at the deadline to reach their clients


class DrainingServer(uvicorn.Server):
    """The first signal drains: /readyz says 503, new generations get 503 with Retry-After.

    For `drain_delay` seconds before that only /readyz does: whoever sends requests by it has so
    long to send them elsewhere, and none is lost. The server exits when nothing is in flight, or
    cuts the rest after `drain_timeout` seconds or at a second signal. Whoever is cut is told so. An
    engine that has stopped by itself drains it too; `has_failed` then says that the end was none
    that anybody asked for.
    """

    def __init__(
        self,
        app: ASGIApp,
        readiness: Readiness,
        *,
        drain_timeout: float,
        drain_delay: float = 0.0,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedHeads,
                lifespan="on",
                ws="none",
                access_log=False,  # our own layer logs requests
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=LAST_WORDS,
            )
        )
        self._announce = announce
        self._readiness = readiness
        self._drain_timeout = drain_timeout
        self._drain_delay = drain_delay
        self._drains_at: float | None = None
        self._deadline: float | None = None
        self._silent = SilentConnections(most=file_limit() // FILES_FOR_OTHERS)
        self.has_failed = False

    def be_witnessed(self, witness: Witness) -> None:
        """Have somebody else able to end our answers, before any connection is taken."""
        self.config.http = cast(type[asyncio.Protocol], partial(WitnessedHttp, witness))

    def serve_out(self, sockets: list[socket.socket]) -> None:
        """Serve in a process that does nothing else; EngineStopped where that is why it ends."""
        settle_interpreter()
        self.run(sockets=sockets)
        if self.has_failed:
            raise EngineStopped("The engine stopped after an error, which the log above tells.")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started or self._deadline == 0:
            super().handle_exit(sig, frame)
        elif self._drains_at is None and self._deadline is None:
            self._readiness.leave()
            self._drains_at = time.monotonic() + self._drain_delay
            self._drain_when_due()
        else:
            self._readiness.begin_drain()
            self._deadline = 0

    def begin_drain(self) -> None:
        """Start leaving. Safe in a signal handler and from another thread."""
        self._readiness.begin_drain()
        self._deadline = time.monotonic() + self._drain_timeout

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; True ends the server."""
        should_exit = await super().on_tick(counter)
        self._silent.look(self.server_state.connections)
        if self._readiness.has_failed and not self.has_failed:
            logger.error("the engine has stopped: the server leaves, to be started again")
            self.has_failed = True
            self.begin_drain()
        self._drain_when_due()
        if self._deadline is None or should_exit:
            return should_exit
        if self._readiness.num_in_flight == 0:
            return True
        if time.monotonic() > self._deadline:
            logger.warning("cutting %d requests short", self._readiness.num_in_flight)
            self._readiness.cut()
            return True
        return False

    def _drain_when_due(self) -> None:
        is_due = self._drains_at is not None and time.monotonic() >= self._drains_at
        if is_due and self._deadline is None:
            self.begin_drain()
