"""Connections on which nobody asks anything: how long they may stay, and how many."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

logger = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds for a request's head to come
LOOK_EVERY = 1.0  # seconds
UNLIMITED = 1 << 20  # files, where the system names no limit
FILES_FOR_OTHERS = 2  # of all files that may be open, silent connections may take one in so many


Connection = Any
"""A protocol of uvicorn's: `transport`; `cycle`, its newest request once that one's head has come;
`timeout_keep_alive_task`, what ends it between two requests."""


class SilentConnections:
    """Ends connections that were opened, or used again, without a request's head coming.

    uvicorn has a time limit between two requests and none before the first. most: silent ones that
    may stay; the oldest go first.
    """

    def __init__(
        self,
        *,
        most: int,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._patience = patience
        self._clock = clock
        self._since: dict[Connection, float] = {}
        self._looked_at = -LOOK_EVERY

    def look(self, connections: Iterable[Connection]) -> None:
        """Called often; looks once a second."""
        now = self._clock()
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        silent = [connection for connection in connections if _is_silent(connection)]
        since = {connection: self._since.get(connection, now) for connection in silent}
        oldest_first = sorted(silent, key=since.__getitem__)
        over = max(0, len(silent) - self._most)
        late = [each for each in oldest_first[over:] if now - since[each] >= self._patience]
        for connection in (*oldest_first[:over], *late):
            connection.transport.close()
            del since[connection]
        self._since = since
        if over:
            logger.warning("%d connections without a request were closed for others", over)


def _is_silent(connection: Connection) -> bool:
    cycle = connection.cycle
    if cycle is None:
        return True
    return bool(cycle.response_complete) and connection.timeout_keep_alive_task is None


def file_limit() -> int:
    """How many files this process may have open."""
    if sys.platform == "win32":
        return 512
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def raise_file_limit() -> None:
    """Let this process open as many files as the system allows it to."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS refuses what it calls unlimited
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
