"""Following a registry's events in a thread: a stream, or polls where no stream comes through."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator

from registry.documents import read_event
from registry.errors import RegistryError, RegistryUnreachable
from registry.events import Event

from .connection import Connection

logger = logging.getLogger(__name__)

_SILENCE = 20.0  # seconds without even a ping until a stream counts as dead
_POLL = 1.0  # seconds between polls
_ANSWER = 5.0  # seconds for the answer to one
_STREAM_AGAIN = 30.0  # seconds of polling until a stream is tried again


class EventFollower:
    """Calls `on_event` for every event from the first connection on, in order, none twice.

    `on_connect` is called at the first connection, with nothing missed before the first event,
    `on_failure` whenever the registry was asked for events in vain.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        on_event: Callable[[Event], None],
        on_connect: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._connection = connection
        self._on_event = on_event
        self._on_connect = on_connect
        self._on_failure = on_failure
        self._cursor: int | None = None
        self._stopping = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry-events", daemon=True)

    @property
    def is_connected(self) -> bool:
        """Whether what happens is heard of now."""
        return self._connected.is_set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop following; returns at once, the thread ends by itself."""
        self._stopping.set()

    def wait(self, seconds: float) -> bool:
        """Wait for a connection; whether there is one."""
        return self._connected.wait(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._stream()
            except (RegistryError, ValueError, KeyError) as failure:
                self._report(failure)
            until = time.monotonic() + _STREAM_AGAIN
            while not self._stopping.is_set() and self._poll() and time.monotonic() < until:
                self._stopping.wait(_POLL)
            self._stopping.wait(_POLL)

    def _stream(self) -> None:
        """Follow the stream until it ends."""
        headers = {"accept": "text/event-stream"}
        if self._cursor is not None:
            headers["last-event-id"] = str(self._cursor)
        with self._connection.stream("/events", headers=headers, timeout=_SILENCE) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise RegistryUnreachable("no stream of events comes through")
            for kind, data in _messages(response.iter_lines()):
                if self._stopping.is_set():
                    return
                if kind == "cursor":
                    self._arrive(int(json.loads(data)["cursor"]))
                else:
                    self._take(read_event(json.loads(data)))

    def _poll(self) -> bool:
        """Ask once; whether the registry answered."""
        try:
            params = {} if self._cursor is None else {"after": self._cursor, "limit": 1000}
            answer = self._connection.call(
                "GET", "/events", params=params, attempts=1, timeout=_ANSWER
            ).json()
            self._arrive(int(answer["cursor"]) if self._cursor is None else self._cursor)
            for values in answer["events"]:
                self._take(read_event(values))
            self._cursor = int(answer["cursor"])
        except (RegistryError, ValueError, KeyError) as failure:
            self._report(failure)
            return False
        return True

    def _arrive(self, cursor: int) -> None:
        if self._cursor is None:
            self._cursor = cursor
            self._on_connect()
        if not self._connected.is_set():
            logger.info("following the registry %s", self._connection.url)
            self._connected.set()

    def _take(self, event: Event) -> None:
        self._cursor = event.id
        self._on_event(event)

    def _report(self, failure: Exception) -> None:
        if self._connected.is_set():
            logger.warning("the registry's events are lost: %s", failure)
            self._connected.clear()
        self._on_failure(failure)


def _messages(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Server-sent events: their name and data."""
    name, data = "message", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield name, data
            name, data = "message", ""
        elif field == "event":
            name = value
        elif field == "data":
            data += value
