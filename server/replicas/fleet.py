"""The replicas of one host: each kept alive in its place, and told to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from server.settings import Settings
from server.supervision import Supervisor

from .places import Place
from .replica import Rehome, Replica
from .work import Assemble

GRACE = 10.0  # seconds beyond the drain's own until one that does not leave is killed


class Fleet:
    """Keeps one replica in each place until told to leave."""

    def __init__(self, places: Sequence[Place], settings: Settings, assemble: Assemble) -> None:
        self.is_leaving = False
        self._places = places
        self._settings = settings
        self._assemble = assemble
        self._replicas: dict[int, Replica] = {}
        self._supervisors: list[Supervisor] = []

    @property
    def num_restarts(self) -> int:
        return sum(supervisor.num_restarts for supervisor in self._supervisors)

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
        """Until all have left. Raises what `Supervisor.run` does where one cannot start at all."""
        self._supervisors = [
            Supervisor(partial(self._start, place, rehome), name=f"replica {place.number}")
            for place in self._places
        ]
        try:
            async with asyncio.TaskGroup() as keeping:
                for supervisor in self._supervisors:
                    keeping.create_task(supervisor.run())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def leave(self) -> None:
        """Have every replica drain; called again, cut what is left. On the event loop."""
        if not self.is_leaving:
            limits = self._settings.api
            deadline = limits.drain_delay + limits.drain_timeout + GRACE
            asyncio.get_running_loop().call_later(deadline, self._kill)
        self.is_leaving = True
        for supervisor in self._supervisors:
            supervisor.end()

    async def _start(self, place: Place, rehome: Rehome) -> Replica:
        replica = await Replica.start(place, self._settings, self._assemble, rehome)
        self._replicas[place.number] = replica
        return replica

    def _kill(self) -> None:
        for supervisor in self._supervisors:
            supervisor.kill()
