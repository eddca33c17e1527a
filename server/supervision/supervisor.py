"""Keeps one serving process alive on a socket."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable

from server.errors import EngineStopped, StartupError
from server.settings import Settings

from .child import Child, ChildEnded, how_it_ended
from .stand_in import StandIn

logger = logging.getLogger(__name__)

STEADY = 60.0  # seconds of service after which a death is the first again
MOST_DEATHS = 5  # in a row, before it is given up
FIRST_PAUSE = 1.0  # seconds before a second start in a row; each further pause is twice as long

Start = Callable[[], Awaitable[Child]]


class Supervisor:
    """Starts a child, starts another when it dies, and gives up when they keep dying.

    While none serves, a stand-in answers on the listener. A child that leaves with status 0 was
    asked to, whoever asked.
    """

    def __init__(
        self,
        start: Start,
        listener: socket.socket,
        *,
        steady: float = STEADY,
        most_deaths: int = MOST_DEATHS,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._start = start
        self._listener = listener
        self._steady = steady
        self._most_deaths = most_deaths
        self._first_pause = first_pause
        self._child: Child | None = None
        self._ending = asyncio.Event()
        self._start_seconds = 1.0  # that the newest start took

    @property
    def child(self) -> Child | None:
        """The process that serves, or is about to."""
        return self._child

    def end(self) -> None:
        """Have the child drain and leave, and start no other; safe in a signal handler."""
        self._ending.set()
        if self._child is not None:
            self._child.terminate()

    async def run(self) -> int:
        """Serve until asked to end; the exit status of the last child.

        Raises what `Child.serving` does if the first one does not start, EngineStopped if too many
        died in a row.
        """
        try:
            await self._begin()
        except ChildEnded as ended:
            if self._ending.is_set():
                return await self._status()
            raise StartupError(str(ended)) from ended
        deaths, since = 0, time.monotonic()
        while True:
            status = await self._status()
            if status == 0 or self._ending.is_set():
                return status
            deaths = 1 if time.monotonic() - since > self._steady else deaths + 1
            logger.error("the serving process %s", how_it_ended(status))
            if not await self._begin_again(deaths):
                return await self._status()
            since = time.monotonic()

    async def _begin_again(self, deaths: int) -> bool:
        """Start a child that serves, after some pauses if need be; False once asked to end."""
        due = time.monotonic()
        async with StandIn(self._listener, lambda: due + self._start_seconds - time.monotonic()):
            while True:
                if deaths >= self._most_deaths:
                    raise EngineStopped(
                        f"The serving process ended {deaths} times in a row; the log above tells."
                    )
                pause = self._first_pause * 2 ** (deaths - 2) if deaths > 1 else 0.0
                due = time.monotonic() + pause
                logger.warning("starting the server again in %.0f s", pause)
                if await self._is_asked_to_end(within=pause):
                    return False
                try:
                    await self._begin()
                except (ChildEnded, StartupError) as error:
                    if self._ending.is_set():
                        return False
                    logger.error("%s", error)
                    deaths += 1
                else:
                    return True

    async def _begin(self) -> None:
        began = time.monotonic()
        self._child = await self._start()
        if self._ending.is_set():
            self._child.terminate()
        await self._child.serving()
        self._start_seconds = time.monotonic() - began

    async def _status(self) -> int:
        return 0 if self._child is None else await self._child.wait()

    async def _is_asked_to_end(self, *, within: float) -> bool:
        try:
            await asyncio.wait_for(self._ending.wait(), within)
        except TimeoutError:
            return False
        return True


def supervise(settings: Settings, listener: socket.socket) -> None:
    """Serve in a process of its own, for as long as nobody says SIGTERM or Ctrl-C.

    Raises StartupError if it cannot start as asked, EngineStopped if it keeps dying.
    """
    status = asyncio.run(_supervise(settings, listener))
    if status:
        sys.exit(128 - status if status < 0 else status)


async def _supervise(settings: Settings, listener: socket.socket) -> int:
    supervisor = Supervisor(lambda: Child.start(settings, listener), listener)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.end)
    return await supervisor.run()
