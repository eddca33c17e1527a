"""One stream's outcomes, where the event loop takes them."""

from __future__ import annotations

import asyncio
from collections import deque

from server.engine.request import GenerationDelta
from server.errors import ServingError

Outcome = GenerationDelta | ServingError


class Outcomes:
    """A queue for one taker, on the loop that it was made on.

    What came while it was elsewhere is taken as one delta: a loop that has fallen behind then sends
    fewer chunks, and longer ones, instead of falling behind further.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._here: deque[Outcome] = deque()

    def put(self, outcome: Outcome) -> None:
        self._here.append(outcome)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def take(self) -> GenerationDelta:
        """Everything there is, once there is something. Raises an error that came."""
        if not self._here:
            self._waiting = self.loop.create_future()
            await self._waiting
        outcome = self._here.popleft()
        if isinstance(outcome, ServingError):
            raise outcome
        deltas = [outcome]
        while self._here and not isinstance(later := self._here[0], ServingError):
            deltas.append(later)
            self._here.popleft()
        return GenerationDelta.of_all(deltas)
