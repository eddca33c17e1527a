"""The replicas of one host: started, looked after, started again, told to leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence

from server.errors import StartupError
from server.settings import Settings
from server.supervision.child import how_it_ended

from .places import Place
from .process import NOT_AS_ASKED, Assemble
from .replica import Replica
from .visit import Visit

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a replica is started again
GRACE = 10.0  # seconds beyond the drain's own until one that does not leave is killed

Rehome = Callable[[Visit], None]
"""What becomes of a visit whose replica ended before it answered."""


class Fleet:
    """Keeps one replica in each place until told to leave."""

    def __init__(self, places: Sequence[Place], settings: Settings, assemble: Assemble) -> None:
        self.num_restarts = 0
        self._places = places
        self._settings = settings
        self._assemble = assemble
        self._replicas: dict[int, Replica] = {}
        self._leaving = asyncio.Event()
        self._orders: set[asyncio.Task[None]] = set()

    @property
    def is_leaving(self) -> bool:
        return self._leaving.is_set()

    @property
    def replicas(self) -> list[Replica]:
        """One for each place, by number, whether it runs or is about to be started again."""
        return [self._replicas[number] for number in sorted(self._replicas)]

    @property
    def taking(self) -> list[Replica]:
        """Those that are ready; if none is, those that answer at all."""
        ready = [replica for replica in self.replicas if replica.is_ready]
        return ready or [replica for replica in self.replicas if replica.is_serving]

    async def run(self, rehome: Rehome) -> None:
        """Until all have left. Raises StartupError where one cannot start as asked."""
        try:
            async with asyncio.TaskGroup() as keeping:
                for place in self._places:
                    keeping.create_task(self._keep(place, rehome))
        except* StartupError as errors:
            raise errors.exceptions[0] from None

    def leave(self) -> None:
        """Have every replica drain; called again, cut what is left. On the event loop."""
        if not self.is_leaving:
            limits = self._settings.api
            deadline = limits.drain_delay + limits.drain_timeout + GRACE
            asyncio.get_running_loop().call_later(deadline, self._kill)
        self._leaving.set()
        for replica in self.replicas:
            self._order(replica.leave())

    async def _keep(self, place: Place, rehome: Rehome) -> None:
        pause = FIRST_PAUSE
        while True:
            replica = Replica(place, self._settings, self._assemble)
            self._replicas[place.number] = replica
            status = await replica.live()
            for visit in replica.orphans():
                rehome(visit)
            if self.is_leaving:
                return
            if status == NOT_AS_ASKED and not self.num_restarts:
                raise StartupError(f"Replica {place.number} could not start; the log says why.")
            self.num_restarts += 1
            pause = FIRST_PAUSE if replica.was_ready else min(2 * pause, LONGEST_PAUSE)
            ended = how_it_ended(status)
            logger.error("replica %d %s: again in %g s", place.number, ended, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), pause)
                return

    def _kill(self) -> None:
        for replica in self.replicas:
            replica.kill()

    def _order(self, order: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(order)
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
