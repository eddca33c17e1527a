"""`hatstand serve --replicas N`: from settings to several engines behind one socket."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable

from server.errors import StartupError
from server.settings import Settings

from .fleet import Fleet
from .front import Front
from .places import find_places
from .work import Assemble

logger = logging.getLogger(__name__)

LOOK = 0.05  # seconds between looks whether the first replica is ready


def serve_replicas(
    settings: Settings, listener: socket.socket, assemble: Assemble, announce: Callable[[], None]
) -> None:
    """Serve on `listener` until SIGTERM or Ctrl-C; `announce` is called once all are ready.

    Raises what `Supervisor.run` does when they cannot start as asked.
    """
    if not hasattr(socket, "send_fds"):
        raise StartupError("--replicas hands sockets to other processes, which needs Unix.")
    places = find_places(settings.replicas, settings.engine.device)
    asyncio.run(_serve(Fleet(places, settings, assemble), settings, listener, announce))


async def _serve(
    fleet: Fleet, settings: Settings, listener: socket.socket, announce: Callable[[], None]
) -> None:
    front = Front(fleet, settings.api)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, fleet.leave)
    beside = [
        asyncio.create_task(front.run(listener)),
        asyncio.create_task(_announce(fleet, settings.replicas, announce)),
    ]
    try:
        await fleet.run(front.rehome)
        await front.finish()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def _announce(fleet: Fleet, size: int, announce: Callable[[], None]) -> None:
    while sum(replica.is_ready for replica in fleet.replicas) < size:
        await asyncio.sleep(LOOK)
    announce()
