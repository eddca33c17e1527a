"""`hatstand serve`: one serving process on a port that its parent holds."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

from server.api.silence import FILES_FOR_OTHERS, file_limit
from server.last_words import Heir, Witness
from server.serve import serve_on
from server.settings import Settings

from .child import Child
from .control import Notice, Serve, Tell, Work
from .stand_in import StandIn, refusal
from .supervisor import Supervisor

MOST_DEATHS = 5  # in a row, before it is given up: nobody else serves, and others may do better


def serve_listener(
    listener: socket.socket, settings: Settings, tell: Tell, witness: Witness | None
) -> None:
    """The child's work: the listening socket is what it is handed."""
    serve_on(listener, settings, announce=lambda: tell(Notice("serving")), witness=witness)


def supervise(settings: Settings, listener: socket.socket, serve: Serve = serve_listener) -> None:
    """Serve in a process of its own, for as long as nobody says SIGTERM or Ctrl-C.

    Raises StartupError if it cannot start as asked, EngineStopped if it keeps dying.
    """
    status = asyncio.run(_supervise(Work(serve, settings), listener))
    if status:
        sys.exit(128 - status if status < 0 else status)


async def _supervise(work: Work, listener: socket.socket) -> int:
    async def start() -> Child:
        heir = Heir.open(
            most_files=file_limit() // FILES_FOR_OTHERS,
            refusal=lambda: refusal(supervisor.start_seconds),
        )
        return await Child.start(work, listener, heir=heir)

    supervisor = Supervisor(
        start,
        meanwhile=lambda retry_after: StandIn(listener, retry_after),
        most_deaths=MOST_DEATHS,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.end)
    return await supervisor.run()
