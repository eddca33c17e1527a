"""One replica's process, as the one that owns the socket sees it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from server.api.silence import FILES_FOR_OTHERS, file_limit
from server.last_words import Heir
from server.settings import Settings
from server.supervision import Child, Notice, Work, refusal

from .handover import hand_over, order_to_leave
from .holding import Holding, Level
from .internal import Answer, read_answer, request
from .places import Place
from .spare import is_out_of_files
from .visit import Visit
from .work import Assemble, ServeInbox

logger = logging.getLogger(__name__)

POLL = 0.5  # seconds between looks at what it holds
LOOK_WITHIN = 2.5  # seconds for an answer to one; without it, others are given requests first
MOST_MISSED = 3  # in a row; a machine that was suspended misses one, and a stopped process all
EXPECTED = 2.0  # seconds after which an adapter that was sent there shows in its metrics
ANSWERS_WITHIN = 10.0  # seconds, what the parent wants to know itself
RETRY_AFTER = 1.0  # seconds, told to whom another replica may answer

Rehome = Callable[[Visit], None]
"""What becomes of a visit that a replica did not answer: it ended, or could not receive it."""
Visits = dict[int, Visit | None]
"""What a replica was given and has not ended, by number; None: it has begun to answer."""


class Replica:
    """A child from its start to its end, and what it was given."""

    def __init__(
        self, number: int, child: Child, orders: socket.socket, visits: Visits, rehome: Rehome
    ) -> None:
        self.number = number
        self.is_serving = False  # it takes connections, ready or not
        self.is_ready = False
        self.reasons = ["it is starting"]
        self._is_leaving = False
        self.metrics = ""
        self._child = child
        self._orders = orders
        self._rehome = rehome
        self._holding = Holding()
        self._expected: dict[str, float] = {}  # adapters sent there, and when
        self._numbers = itertools.count(1)
        self._open = visits
        self._sender = ThreadPoolExecutor(1, thread_name_prefix=f"replica-{number}")

    @classmethod
    async def start(
        cls, place: Place, settings: Settings, assemble: Assemble, rehome: Rehome
    ) -> Replica:
        settings = replace(settings, engine=replace(settings.engine, device=place.device))
        visits: Visits = {}
        heir = Heir.open(
            most_files=file_limit() // FILES_FOR_OTHERS // settings.replicas,
            refusal=lambda: refusal(RETRY_AFTER),
            is_left=lambda number: visits.get(number) is None,  # others go to another replica
        )
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            work = Work(ServeInbox(assemble, place.number), settings)
            child = await Child.start(work, theirs, place.environ, heir)
            undo.pop_all()
        return cls(place.number, child, ours, visits, rehome)

    @property
    def num_open(self) -> int:
        """Requests that it has been given and not answered to the end."""
        return len(self._open)

    @property
    def num_free(self) -> int:
        """Slots into which nothing was sent yet."""
        return max(0, self._holding.num_free - len(self._on_their_way()))

    def level_of(self, model: str) -> Level:
        """How near an adapter is there; one that was sent there just now counts as loaded."""
        level = self._holding.level_of(model)
        return Level.SLOT if level > Level.SLOT and model in self._on_their_way() else level

    async def hand(self, visit: Visit) -> None:
        """Have it answer a visit; one that it dies over before it answers is among the orphans."""
        number = next(self._numbers)
        self._open[number] = visit
        visit.tried.append(self.number)
        if self.level_of(visit.model) is not Level.SLOT:
            self._expected[visit.model] = time.monotonic()
        try:
            await self._send(lambda: hand_over(self._orders, number, visit.connection, visit.raw))
        except OSError as error:  # of most, it has died, which `wait` finds out
            if error.errno == errno.ETOOMANYREFS:  # Linux: too many connections are on their way
                self._lose(number)

    async def ask(self, raw: bytes, *, within: float = ANSWERS_WITHIN) -> Answer:
        """Its answer to a request of the parent's own. OSError or TimeoutError without one in so
        many seconds."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                await self._send(lambda: hand_over(self._orders, next(self._numbers), theirs, raw))
            ours.setblocking(False)
            async with asyncio.timeout(within):
                return await read_answer(ours)

    async def serving(self) -> None:
        """Return once it takes connections; raises what `Child.serving` does."""
        try:
            await self._child.serving()
        except BaseException:
            self._close()
            raise
        self.is_serving = True
        if self._is_leaving:  # the signal may have come when it heeded none any more
            self._order_to_leave()

    async def wait(self) -> int:
        """Listen to it until it ends; its exit status. What it did not answer finds a new home."""
        watching = asyncio.create_task(self._watch())
        try:
            async for notice in self._child.notices():
                self._heed(notice)
            return await self._child.wait()
        finally:
            self.is_ready = self.is_serving = False
            self.reasons = ["it has ended"]
            watching.cancel()
            self._close()

    def terminate(self) -> None:
        """Have it finish what it has; a second time, at once."""
        self._is_leaving = True
        if self.is_serving:
            self._order_to_leave()
        else:
            self._child.terminate()

    def kill(self) -> None:
        self._child.kill()

    def _order_to_leave(self) -> None:
        self._sender.submit(order_to_leave, self._orders)

    def _close(self) -> None:
        self._sender.shutdown(wait=False)
        self._orders.close()
        orphans = [visit for visit in self._open.values() if visit is not None]
        self._open.clear()
        for visit in orphans:
            self._rehome(visit)

    async def _send(self, send: Callable[[], None]) -> None:
        """In a thread, in order: a replica that does not read holds nobody else up. OSError."""
        await asyncio.get_running_loop().run_in_executor(self._sender, send)

    def _heed(self, notice: Notice) -> None:
        if notice.number not in self._open:
            return
        if notice.kind == "lost":
            self._lose(notice.number)
            return
        if visit := self._open[notice.number]:
            visit.connection.close()  # a copy, kept in case that the replica died
        self._open[notice.number] = None
        if notice.kind == "ended":
            del self._open[notice.number]

    def _lose(self, number: int) -> None:
        if visit := self._open.pop(number):
            self._rehome(visit)

    async def _watch(self) -> None:
        """Look at its readiness and metrics for as long as it lives; end it when it hangs."""
        missed = 0
        while missed < MOST_MISSED or self._is_leaving:
            try:
                async with asyncio.timeout(LOOK_WITHIN):
                    await self._look()
                missed = 0
            except TimeoutError:
                missed += 1
                self.is_ready, self.reasons = False, ["it does not answer"]
            except (OSError, ValueError, KeyError) as error:
                if not is_out_of_files(error):  # that is this process, and says nothing of it
                    self.is_ready, self.reasons = False, [f"it does not answer: {error}"]
            await asyncio.sleep(POLL)
        logger.error("replica %d has not answered for %d looks: it is killed", self.number, missed)
        self.kill()

    async def _look(self) -> None:
        readiness = (await self.ask(request("GET", "/readyz"))).expect(200, 503)
        self.metrics = (await self.ask(request("GET", "/metrics"))).expect(200).text
        self._holding = Holding.read(self.metrics)
        self.is_ready = readiness.status == 200
        self.reasons = readiness.json()["reasons"]

    def _on_their_way(self) -> dict[str, float]:
        """Adapters that were sent there, and have neither come to a slot nor failed to by now."""
        earliest = time.monotonic() - EXPECTED
        self._expected = {
            name: at
            for name, at in self._expected.items()
            if at > earliest and self._holding.level_of(name) is not Level.SLOT
        }
        return self._expected
