"""A serving process's side: what it leaves with its parent of each connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from asyncio.trsock import TransportSocket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from .copies import give, give_up
from .counting import taken
from .pages import Pages
from .written import Written

logger = logging.getLogger(__name__)

AGAIN = 0.1  # seconds until the parent is told what it could not be told before
_TCP = (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True, eq=False)
class Watched:
    """A connection of which the parent has a copy."""

    written: Written
    page: int
    connection: TransportSocket


class Witness:
    """Gives the parent a copy of each connection, and takes it back at its end.

    On the event loop. A connection for which there is no page, or no room on the channel, is served
    as any other, and breaks when this process dies.
    """

    def __init__(self, channel: socket.socket, pages: Pages) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._pages = pages
        self._unused = iter(range(pages.num_pages))
        self._free: list[int] = []
        self._to_give_up: deque[int] = deque()
        self._again: asyncio.TimerHandle | None = None

    @classmethod
    def inheriting(cls, channel: int, pages: int) -> Witness:
        """From the files that `Heir.inherited` names."""
        mapped = Pages(pages)
        os.close(pages)
        return cls(socket.socket(fileno=channel), mapped)

    def watch(self, transport: asyncio.Transport, number: int) -> Watched | None:
        """Begin, before anything is written here; `number` is what the parent calls it, if it does.

        None where it cannot be.
        """
        connection = transport.get_extra_info("socket")
        if connection.family not in _TCP or self._to_give_up:
            return None
        page = self._free.pop() if self._free else next(self._unused, None)
        if page is None:
            return None
        try:
            with _borrowed(connection) as own:
                count = taken(own)
            notes = self._pages[page]
            notes.clear()
            give(self._channel, page, number, connection.fileno())
        except OSError as error:
            logger.debug("should this process die, an answer breaks off: %s", error)
            self._free.append(page)
            return None
        return Watched(Written(transport, notes, count), page, connection)

    def end(self, watched: Watched) -> None:
        """Say to the client that nothing more comes, whoever else has a copy, and take it back.

        Called while the connection is still open.
        """
        with contextlib.suppress(OSError), _borrowed(watched.connection) as connection:
            connection.shutdown(socket.SHUT_RDWR)
        self._to_give_up.append(watched.page)
        self._give_up_all()

    def _give_up_all(self) -> None:
        """What the parent has no room for now is told later, and until then it gets nothing new."""
        if self._again is not None:
            return
        try:
            while self._to_give_up:
                give_up(self._channel, self._to_give_up[0])
                self._free.append(self._to_give_up.popleft())
        except BlockingIOError:
            self._again = asyncio.get_running_loop().call_later(AGAIN, self._try_again)
        except OSError:  # the parent has gone, and nobody has copies
            self._to_give_up.clear()

    def _try_again(self) -> None:
        self._again = None
        self._give_up_all()


@contextlib.contextmanager
def _borrowed(connection: TransportSocket) -> Iterator[socket.socket]:
    """The transport's own socket, which stays its own."""
    own = socket.socket(connection.family, connection.type, connection.proto, connection.fileno())
    try:
        yield own
    finally:
        own.detach()
