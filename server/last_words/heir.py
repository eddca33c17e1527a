"""A parent's side: copies of a process's connections, and what is said there when it has died."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable

from server.api.errors import error_event
from server.errors import EngineStopped

from . import copies
from .copies import Given
from .counting import can_count, taken
from .pages import Pages, Place, create_file
from .written import LAST_CHUNK

logger = logging.getLogger(__name__)

MOST_PAGES = 1 << 16
AT_ONCE = 256  # records read in one go
PATIENCE = 5.0  # seconds for a client to take what it was told
PIECE = 1 << 16
_EVENT = error_event(EngineStopped())
LAST_EVENT = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)  # in HTTP/1.1's chunked coding


class Heir:
    """Has a copy of each connection on which a child answers, until the child takes it back.

    refusal: a whole answer for those whose own had not begun. is_left: whether the connection of
    that number is ours to speak on, when its answer had not begun.
    """

    def __init__(
        self,
        ends: tuple[socket.socket, socket.socket],
        file: int,
        *,
        refusal: Callable[[], bytes],
        is_left: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._channel, self._theirs = ends
        self._file = file
        self._pages = Pages(file)
        self._refusal = refusal
        self._is_left = is_left
        self._copies: dict[int, Given] = {}
        self._parting: set[asyncio.Task[None]] = set()

    @classmethod
    def open(
        cls,
        *,
        most_files: int,
        refusal: Callable[[], bytes],
        is_left: Callable[[int], bool] = lambda _: True,
    ) -> Heir | None:
        """None where the system cannot tell how far answers have come.

        most_files: copies that it may have open at once.
        """
        if not can_count():
            return None
        with contextlib.ExitStack() as undo:
            file = create_file(min(most_files, MOST_PAGES))
            undo.callback(os.close, file)
            heir = cls(copies.channel(), file, refusal=refusal, is_left=is_left)
            undo.pop_all()
        return heir

    @property
    def inherited(self) -> tuple[int, int]:
        """Files that the child is to begin with: its end of the channel, and the pages."""
        return self._theirs.fileno(), self._file

    def attend(self) -> None:
        """Take copies from now on: the child has begun."""
        self._close_inherited()
        asyncio.get_running_loop().add_reader(self._channel, self._receive)

    def close(self) -> None:
        """There is to be no child."""
        self._close_inherited()
        self._channel.close()

    def speak(self) -> None:
        """End what the child, which has died, had not; then nothing is held any more."""
        if self._channel.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._channel)
        while self._receive():
            pass
        self._channel.close()
        told = sum([self._speak_on(copy) for copy in self._copies.values()])
        self._copies.clear()
        if told:
            logger.warning("%d clients were told that what served them has died", told)

    def _receive(self) -> bool:
        """Take what was given; whether there may be more."""
        for _ in range(AT_ONCE):
            try:
                message = copies.receive(self._channel)
            except BlockingIOError:
                return False
            if message is None:
                asyncio.get_running_loop().remove_reader(self._channel)
                return False
            self._forget(message.page)
            if isinstance(message, Given):
                self._copies[message.page] = message
        return True

    def _speak_on(self, copy: Given) -> bool:
        """Whether there was something to say, and it could be said at once."""
        connection = copy.connection
        if connection is None:
            return False
        with contextlib.suppress(OSError):  # the client has gone, or takes nothing at the moment
            connection.setblocking(False)
            words = self._words_on(connection, copy)
            if words and connection.send(words) == len(words):
                task = asyncio.get_running_loop().create_task(_part(connection))
                self._parting.add(task)
                task.add_done_callback(self._parting.discard)
                return True
        connection.close()
        return False

    def _words_on(self, connection: socket.socket, copy: Given) -> bytes:
        match self._pages[copy.page].place_at(taken(connection)):
            case Place.UNANSWERED:
                return self._refusal() if self._is_left(copy.number) else b""
            case Place.BETWEEN_EVENTS:
                return LAST_EVENT + LAST_CHUNK
            case Place.BEFORE_LAST_CHUNK:
                return LAST_CHUNK
            case Place.NOWHERE:
                return b""

    def _close_inherited(self) -> None:
        self._theirs.close()
        os.close(self._file)

    def _forget(self, page: int) -> None:
        held = self._copies.pop(page, None)
        if held is not None and held.connection is not None:
            held.connection.close()


async def _part(connection: socket.socket) -> None:
    """Say that nothing more comes, and read away what does: closed with bytes unread, a connection
    is reset, and what was said on it lost."""
    loop = asyncio.get_running_loop()
    with connection, contextlib.suppress(OSError, TimeoutError):
        connection.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(PATIENCE):
            while await loop.sock_recv(connection, PIECE):
                pass
