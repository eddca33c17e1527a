"""`hatstand serve`: one serving process on a port that its parent holds."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

from server.serve import serve_on
from server.settings import Settings

from .child import Child
from .control import Notice, Tell, Work
from .stand_in import StandIn
from .supervisor import Supervisor

MOST_DEATHS = 5  # in a row, before it is given up: nobody else serves, and others may do better


def supervise(settings: Settings, listener: socket.socket) -> None:
    """Serve in a process of its own, for as long as nobody says SIGTERM or Ctrl-C.

    Raises StartupError if it cannot start as asked, EngineStopped if it keeps dying.
    """
    status = asyncio.run(_supervise(settings, listener))
    if status:
        sys.exit(128 - status if status < 0 else status)


async def _supervise(settings: Settings, listener: socket.socket) -> int:
    supervisor = Supervisor(
        lambda: Child.start(Work(serve_listener, settings), listener),
        meanwhile=lambda retry_after: StandIn(listener, retry_after),
        most_deaths=MOST_DEATHS,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.end)
    return await supervisor.run()


def serve_listener(listener: socket.socket, settings: Settings, tell: Tell) -> None:
    """The child's work: the listening socket is what it is handed."""
    serve_on(listener, settings, announce=lambda: tell(Notice("serving")))
