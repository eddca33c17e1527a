"""Keeps one serving process alive."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from server.errors import EngineStopped, StartupError

from .child import ChildEnded, how_it_ended

logger = logging.getLogger(__name__)

STEADY = 60.0  # seconds of service after which a death is the first again
FIRST_PAUSE = 1.0  # seconds before a second start in a row; each further pause is twice as long …
LONGEST_PAUSE = 30.0  # … up to this


class Served(Protocol):
    """A `Child`, or what is built around one."""

    async def serving(self) -> None: ...
    async def wait(self) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


Start = Callable[[], Awaitable[Served]]
Meanwhile = Callable[[Callable[[], float]], AbstractAsyncContextManager[object]]
"""What is there while nobody serves; told how to ask for the seconds until somebody should."""


class Supervisor:
    """Starts a child, starts another when it dies, and gives up when they keep dying.

    A child that leaves with status 0 was asked to, whoever asked. most_deaths: in a row, before it
    is given up; None: never.
    """

    def __init__(
        self,
        start: Start,
        *,
        name: str = "the serving process",
        meanwhile: Meanwhile = lambda _: nullcontext(),
        most_deaths: int | None = None,
        steady: float = STEADY,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self.num_restarts = 0
        self.start_seconds = 1.0  # that the newest start took
        self._start = start
        self._name = name
        self._meanwhile = meanwhile
        self._most_deaths = most_deaths
        self._steady = steady
        self._first_pause = first_pause
        self._child: Served | None = None
        self._ending = asyncio.Event()

    @property
    def is_ending(self) -> bool:
        return self._ending.is_set()

    def end(self) -> None:
        """Have the child drain and leave, and start no other; safe in a signal handler.

        Asked again, the child cuts what still runs.
        """
        self._ending.set()
        if self._child is not None:
            self._child.terminate()

    def kill(self) -> None:
        """Wait for the child no longer."""
        if self._child is not None:
            self._child.kill()

    async def run(self) -> int:
        """Serve until asked to end; the exit status of the last child.

        Raises what `Child.serving` does if the first one does not start, EngineStopped if too many
        died in a row. Cancelled, it takes the child along.
        """
        try:
            return await self._run()
        except asyncio.CancelledError:
            self.kill()
            await self._status()
            raise

    async def _run(self) -> int:
        try:
            await self._begin()
        except ChildEnded as ended:
            if self.is_ending:
                return await self._status()
            raise StartupError(str(ended)) from ended
        deaths, since = 0, time.monotonic()
        while True:
            status = await self._status()
            if status == 0 or self.is_ending:
                return status
            deaths = 1 if time.monotonic() - since > self._steady else deaths + 1
            logger.error("%s %s", self._name, how_it_ended(status))
            if not await self._begin_again(deaths):
                return await self._status()
            since = time.monotonic()

    async def _begin_again(self, deaths: int) -> bool:
        """Start a child that serves, after some pauses if need be; False once asked to end."""
        due = time.monotonic()
        async with self._meanwhile(lambda: due + self.start_seconds - time.monotonic()):
            while True:
                if self._most_deaths is not None and deaths >= self._most_deaths:
                    raise EngineStopped(
                        f"The serving process ended {deaths} times in a row; the log above tells."
                    )
                pause = self._pause_after(deaths)
                due = time.monotonic() + pause
                logger.warning("starting %s again in %.0f s", self._name, pause)
                if await self._is_asked_to_end(within=pause):
                    return False
                self.num_restarts += 1
                try:
                    await self._begin()
                except (ChildEnded, StartupError, ModuleNotFoundError, OSError) as error:
                    if self.is_ending:
                        return False
                    logger.error("%s: %s", self._name, error)
                    deaths += 1
                else:
                    return True

    def _pause_after(self, deaths: int) -> float:
        if deaths < 2:
            return 0.0
        return min(LONGEST_PAUSE, self._first_pause * 2.0 ** min(deaths - 2, 16))

    async def _begin(self) -> None:
        began = time.monotonic()
        self._child = await self._start()
        if self.is_ending:
            self._child.terminate()
        await self._child.serving()
        self.start_seconds = time.monotonic() - began

    async def _status(self) -> int:
        return 0 if self._child is None else await self._child.wait()

    async def _is_asked_to_end(self, *, within: float) -> bool:
        try:
            await asyncio.wait_for(self._ending.wait(), within)
        except TimeoutError:
            return False
        return True
