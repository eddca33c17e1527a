"""Threads that read adapters into host memory beside decoding."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from registry.tracing import within
from server.engine.request import AdapterRef
from server.engine.threads import limit_threads
from server.errors import AdapterLoadError
from server.residency.host import HostAdapter
from server.residency.source import HostSource

logger = logging.getLogger(__name__)

NUM_THREADS = 4  # what loads wait for is a disk or a network, rarely a core


@dataclass(frozen=True)
class Loaded:
    """How one load came out."""

    digest: str
    outcome: HostAdapter | AdapterLoadError
    seconds: float  # spent reading and packing, not in the queue


class Loader:
    """Reads several adapters at once; those beyond wait for a thread in the order they came.

    The threads keep torch to one thread each: once there are more OpenMP threads than cores, every
    barrier becomes a sleep, the engine's too, and its steps take twice as long.
    """

    def __init__(self, source: HostSource, *, num_threads: int = NUM_THREADS) -> None:
        self._source = source
        self._futures: dict[str, Future[Loaded]] = {}
        self._done: queue.SimpleQueue[tuple[str, Future[Loaded]]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(
            num_threads,
            thread_name_prefix="adapter-loader",
            initializer=partial(limit_threads, 1),
        )

    def begin(self, adapter: AdapterRef) -> None:
        """Have an adapter read; nothing new happens if it is under way."""
        if adapter.digest in self._futures:
            return
        future = self._pool.submit(self._load, adapter)
        self._futures[adapter.digest] = future
        future.add_done_callback(lambda done: self._done.put((adapter.digest, done)))

    def call_off(self, digest: str) -> None:
        """Forget a load that no thread has begun; one that is being read comes to its end."""
        future = self._futures.get(digest)
        if future is not None and future.cancel():
            del self._futures[digest]

    def finished(self) -> Iterator[Loaded]:
        """What has been read, or could not be, since this was asked last."""
        while not self._done.empty():
            digest, future = self._done.get()
            if not future.cancelled():
                del self._futures[digest]
                yield future.result()

    def is_loading(self, digest: str) -> bool:
        return digest in self._futures

    @property
    def is_busy(self) -> bool:
        return bool(self._futures)

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _load(self, adapter: AdapterRef) -> Loaded:
        began = time.monotonic()
        outcome: HostAdapter | AdapterLoadError
        try:
            with within(adapter.asked_in, "load adapter", _attributes(adapter)):
                outcome = self._source.load(adapter)
        except AdapterLoadError as error:
            outcome = error
        except Exception:  # whatever a source raises is the adapter's failure only
            logger.exception("adapter %s could not be loaded", adapter.label)
            outcome = AdapterLoadError(
                f"adapter {adapter.label} could not be loaded; the server's log has the details"
            )
        return Loaded(adapter.digest, outcome, time.monotonic() - began)


def _attributes(adapter: AdapterRef) -> dict[str, str]:
    """What the trace of whoever asked first says of a load."""
    return {"hatstand.adapter.digest": adapter.digest, "hatstand.adapter.ref": adapter.label}
