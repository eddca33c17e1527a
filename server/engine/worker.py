"""The engine's thread, and the door through which the event loop reaches it."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial

import torch

from server.engine.engine import Engine
from server.engine.outcomes import Outcome, Outcomes
from server.engine.request import AdapterRef, EngineStats, GenerationDelta, GenerationRequest
from server.engine.threads import limit_threads
from server.errors import (
    AdapterLoadError,
    EngineStopped,
    InvalidRequest,
    ServingError,
    Unavailable,
)

logger = logging.getLogger(__name__)

IDLE_WAIT = 0.002  # seconds between looks at adapters that are on their way, in or out
DRAIN_POLL = 0.02

Command = Callable[[], None]


@dataclass(eq=False)
class _Watch:
    """Somebody on an event loop who waits until something has come about, or failed."""

    outcome: Callable[[], bool | ServingError]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]

    def is_over(self) -> bool:
        """Look, and tell whoever waits if there is something to tell."""
        result = self.outcome()
        if result:
            self.end(result if isinstance(result, ServingError) else None)
        return bool(result)

    def end(self, error: ServingError | None) -> None:
        _call(self.loop, lambda: _settle(self.done, error))


class EngineWorker:
    """Runs an Engine in a thread of its own; the event loop never waits for a forward pass.

    Commands go in through a queue and are carried out between two steps. A step's deltas go back
    in one hop per event loop.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._streams: dict[str, Outcomes] = {}
        self._outbox: dict[asyncio.AbstractEventLoop, list[tuple[Outcomes, Outcome]]] = defaultdict(
            list
        )
        self._watches: list[_Watch] = []
        self._stats = engine.stats()
        self._stopping = threading.Event()
        self._door = threading.Lock()  # what is asked before the end is answered at the end
        self._failure: Exception | None = None
        # The loader's threads change what torch gives threads that come after them.
        self._num_threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_healthy(self) -> bool:
        """False before the start and once the thread has died."""
        return self._failure is None and self._thread.is_alive()

    def stats(self) -> EngineStats:
        """The snapshot taken after the newest step."""
        return self._stats

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """Stream one sequence; closing the generator aborts it.

        Raises QueueFull, InvalidRequest or AdapterLoadError before the first delta, and
        Unavailable whenever the engine stops.
        """
        stream = Outcomes()
        with self._door:
            self._check_running()
            if request.request_id in self._streams:
                raise InvalidRequest(f"request {request.request_id} is running already")
            self._streams[request.request_id] = stream
            self._commands.put(lambda: self._add(request))
        has_ended = False
        try:
            while not has_ended:
                delta = await stream.take()
                has_ended = delta.finish_reason is not None
                yield delta
        except ServingError:
            has_ended = True
            raise
        finally:
            if not has_ended:
                self._commands.put(lambda: self._abort(request.request_id))

    async def load_adapter(self, adapter: AdapterRef, *, pin: bool = False) -> None:
        """Bring an adapter into a slot; pinned, it stays there. Raises AdapterLoadError."""
        adapters = self._engine.adapters

        def begin() -> None:
            if pin:
                adapters.pin(adapter)
            elif not adapters.is_resident(adapter.digest):
                adapters.want(adapter)

        def outcome() -> bool | ServingError:
            if adapters.is_resident(adapter.digest):
                return True
            if adapters.is_wanted(adapter.digest):
                return False
            unloaded = AdapterLoadError(f"adapter {adapter.label} was unloaded while it loaded")
            return adapters.failures.get(adapter.digest, unloaded)

        await self._until(begin, outcome)

    async def unload_adapter(self, digest: str) -> bool:
        """Let its sequences finish, then free slot and host copy. False: it was not loaded."""
        adapters = self._engine.adapters
        found: list[bool] = []
        await self._until(
            lambda: found.append(adapters.unload(digest)), lambda: adapters.is_gone(digest)
        )
        return found[0]

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until no sequence is left."""
        deadline = asyncio.get_running_loop().time() + timeout
        while self._streams and self.is_healthy:
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(DRAIN_POLL)

    def stop(self) -> None:
        """End the thread after the step it is in; sequences still running are told so."""
        self._stopping.set()
        self._commands.put(lambda: None)
        if self._thread.is_alive():
            self._thread.join()
        self._engine.adapters.stop()

    def _check_running(self) -> None:
        if not self.is_healthy or self._stopping.is_set():
            raise self._stopped()

    def _stopped(self) -> Unavailable:
        """What callers are told; why the engine died is for the log, not for them."""
        if self._failure is not None:
            return EngineStopped()
        return Unavailable("the engine is not running: the server is starting or shutting down")

    async def _until(self, begin: Command, outcome: Callable[[], bool | ServingError]) -> None:
        """Begin something on the engine's thread and wait until it has come about, or failed."""
        loop = asyncio.get_running_loop()
        watch = _Watch(outcome, loop, loop.create_future())
        with self._door:
            self._check_running()
            self._commands.put(lambda: self._begin(begin, watch))
        await watch.done

    def _run(self) -> None:
        limit_threads(self._num_threads)
        try:
            while not self._stopping.is_set():
                self._obey(wait=not self._is_busy)
                # The event loop wants the interpreter for each token that is handed over. Once the
                # next step is launched it may have it: this thread then waits for the device.
                progressed = self._engine.step(self._emit, self._deliver)
                self._stats = self._engine.stats()
                self._watches = [watch for watch in self._watches if not watch.is_over()]
                if not self._engine.runs_beside:
                    self._deliver()
                if not progressed and self._is_busy:
                    self._stopping.wait(IDLE_WAIT)
        except Exception as error:
            logger.exception("the engine thread died")
            self._failure = error
        finally:
            self._end()

    @property
    def _is_busy(self) -> bool:
        """Whether to look again soon, though nobody asks for anything.

        What somebody waits for may come about between two steps, with nothing left to compute: an
        unloaded adapter leaves after the last step of the sequence that used it.
        """
        return self._engine.has_work or bool(self._watches)

    def _obey(self, *, wait: bool) -> None:
        """Carry out what was asked; when idle, sleep until something is."""
        if wait:
            self._commands.get()()
        while not self._commands.empty():
            self._commands.get()()

    def _add(self, request: GenerationRequest) -> None:
        if self._stopping.is_set():
            return  # it is told at the end
        try:
            self._engine.add(request)
        except ServingError as error:
            self._emit(request.request_id, error)

    def _abort(self, request_id: str) -> None:
        self._streams.pop(request_id, None)
        if not self._stopping.is_set():
            self._engine.abort(request_id)

    def _begin(self, begin: Command, watch: _Watch) -> None:
        self._watches.append(watch)
        if not self._stopping.is_set():
            begin()

    def _emit(self, request_id: str, outcome: Outcome) -> None:
        stream = self._streams.get(request_id)
        if stream is None:
            return
        if isinstance(outcome, ServingError) or outcome.finish_reason is not None:
            del self._streams[request_id]
        self._outbox[stream.loop].append((stream, outcome))

    def _deliver(self) -> None:
        outbox, self._outbox = self._outbox, defaultdict(list)
        for loop, outcomes in outbox.items():
            _call(loop, partial(_hand_over, outcomes))

    def _end(self) -> None:
        """Tell everybody who still waits that the engine has stopped."""
        with self._door:
            self._stopping.set()
        self._obey(wait=False)
        error = self._stopped()
        for request_id in list(self._streams):
            self._emit(request_id, error)
        for watch in self._watches:
            watch.end(error)
        self._deliver()


def _call(loop: asyncio.AbstractEventLoop, function: Command) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:  # the loop closed while something of it still ran
        logger.debug("an event loop closed before it was answered")


def _hand_over(outcomes: list[tuple[Outcomes, Outcome]]) -> None:
    for stream, outcome in outcomes:
        stream.put(outcome)


def _settle(done: asyncio.Future[None], error: ServingError | None) -> None:
    if done.done():  # whoever waited has gone
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
