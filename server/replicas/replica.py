"""One replica's process, as the one that owns the socket sees it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from server.settings import Settings

from .handover import Note, Word, hand_over, order_to_leave, split_notes
from .holding import Holding, Level
from .internal import Answer, read_answer, request
from .places import Place
from .process import Assemble, run_replica
from .visit import Visit

logger = logging.getLogger(__name__)

POLL = 0.5  # seconds between looks at what it holds
EXPECTED = 2.0  # seconds after which an adapter that was sent there shows in its metrics
ANSWERS_WITHIN = 10.0  # seconds, what the parent wants to know itself


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Ours, with these for what is started meanwhile.

    A process has to have them from its first instruction: CUDA reads which GPUs there are once, and
    what imports torch on the way may ask for that before anybody could set anything.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Replica:
    """A process from its start to its end."""

    def __init__(self, place: Place, settings: Settings, assemble: Assemble) -> None:
        self.number = place.number
        self.is_serving = False  # it takes connections, ready or not
        self.is_ready = False
        self.was_ready = False
        self.reasons = ["it is starting"]
        self.metrics = ""
        self._holding = Holding()
        self._expected: dict[str, float] = {}  # adapters sent there, and when
        self._numbers = itertools.count(1)
        self._open: dict[int, Visit | None] = {}  # None: it has begun to answer
        self._sender = ThreadPoolExecutor(1, thread_name_prefix=f"replica-{place.number}")
        self._orders, orders = socket.socketpair()
        self._notes, notes = socket.socketpair()
        self._notes.setblocking(False)
        self._process = multiprocessing.get_context("spawn").Process(
            target=run_replica,
            args=(place, settings, assemble, orders, notes),
            name=f"replica-{place.number}",
        )
        with orders, notes, _environment(place.environ):
            self._process.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

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
        if self.level_of(visit.model) is not Level.SLOT:
            self._expected[visit.model] = time.monotonic()
        await self._send(lambda: hand_over(self._orders, number, visit.connection, visit.raw))

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

    async def live(self) -> int:
        """Listen to it until it ends; its exit status."""
        watching = asyncio.create_task(self._watch())
        try:
            await self._listen()
        except asyncio.CancelledError:
            self.kill()
            raise
        finally:
            self.is_ready = self.is_serving = False
            self.reasons = ["it has ended"]
            watching.cancel()
            await asyncio.to_thread(self._process.join)
            self._sender.shutdown(wait=False)
            self._orders.close()
            self._notes.close()
        return self._process.exitcode or 0

    def orphans(self) -> list[Visit]:
        """After its end: what it was given and did not begin to answer."""
        visits = [visit for visit in self._open.values() if visit is not None]
        self._open.clear()
        return visits

    async def leave(self) -> None:
        """Have it finish what it has; a second time, at once."""
        if self.is_serving:
            await self._send(lambda: order_to_leave(self._orders))
        else:
            self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    async def _send(self, send: Callable[[], None]) -> None:
        """In a thread, in order: a replica that does not read holds nobody else up."""
        with contextlib.suppress(OSError):  # it has died, which `live` finds out
            await asyncio.get_running_loop().run_in_executor(self._sender, send)

    async def _listen(self) -> None:
        loop, rest = asyncio.get_running_loop(), b""
        while data := await self._receive(loop):
            notes, rest = split_notes(rest + data)
            for note in notes:
                self._heed(note)

    async def _receive(self, loop: asyncio.AbstractEventLoop) -> bytes:
        try:
            return await loop.sock_recv(self._notes, 4096)
        except ConnectionError:
            return b""

    def _heed(self, note: Note) -> None:
        if note.word is Word.SERVING:
            self.is_serving = True
        elif note.number in self._open:
            if visit := self._open[note.number]:
                visit.connection.close()  # a copy, kept in case that the replica died
            self._open[note.number] = None
            if note.word is Word.ENDED:
                del self._open[note.number]

    async def _watch(self) -> None:
        """Look at its readiness and metrics for as long as it lives."""
        while True:
            if self.is_serving:
                try:
                    await self._look()
                except (OSError, ValueError, KeyError) as error:
                    self.is_ready, self.reasons = False, [f"it does not answer: {error}"]
            await asyncio.sleep(POLL)

    async def _look(self) -> None:
        readiness = (await self.ask(request("GET", "/readyz"))).expect(200, 503)
        self.metrics = (await self.ask(request("GET", "/metrics"))).expect(200).text
        self._holding = Holding.read(self.metrics)
        self.is_ready = readiness.status == 200
        self.was_ready = self.was_ready or self.is_ready
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
