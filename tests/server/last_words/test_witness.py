"""What a serving process leaves with its parent, also with one that does not listen."""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import cast

import pytest

from server.last_words.copies import Given, channel, receive
from server.last_words.pages import Pages, create_file
from server.last_words.witness import AGAIN, Watched, Witness

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts so"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Transport:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def get_extra_info(self, name: str) -> TransportSocket:
        assert name == "socket"
        return TransportSocket(self._connection)


class Connections:
    """Opened one after the other, each watched if it can be."""

    def __init__(self, witness: Witness, opened: ExitStack) -> None:
        self.clients: list[socket.socket] = []
        self.witness = witness
        self._opened = opened
        self._listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))

    def watch(self) -> Watched | None:
        client = socket.create_connection(self._listener.getsockname(), timeout=60)
        self.clients.append(self._opened.enter_context(client))
        connection = self._opened.enter_context(self._listener.accept()[0])
        transport = cast("asyncio.Transport", Transport(connection))
        return self.witness.watch(transport, len(self.clients))


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def parted(opened: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Both ends of a channel; the parent's first."""
    ours, theirs = channel()
    return opened.enter_context(ours), opened.enter_context(theirs)


async def test_a_copy_says_what_is_called_what_and_is_taken_back(opened: ExitStack) -> None:
    ours, theirs = parted(opened)
    connections = Connections(Witness(theirs, Pages(create_file(1))), opened)
    for number in (1, 3):
        watched = connections.watch()
        assert watched is not None
        assert connections.watch() is None  # there is one page
        given = receive(ours)
        assert isinstance(given, Given)
        assert given.number == number
        assert given.connection is not None
        with given.connection as copy:
            copy.sendall(b"hello")
            assert connections.clients[number - 1].recv(5) == b"hello"
            connections.witness.end(watched)
            # Though the parent has it open yet:
            assert connections.clients[number - 1].recv(5) == b""
        assert not isinstance(receive(ours), Given)


async def test_a_parent_that_does_not_listen_holds_nobody_up(opened: ExitStack) -> None:
    ours, theirs = parted(opened)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # as little as Linux gives
    connections = Connections(Witness(theirs, Pages(create_file(1000))), opened)
    watched = []
    while (one := connections.watch()) is not None:
        watched.append(one)
    assert watched
    for each in watched:
        connections.witness.end(each)
    assert connections.watch() is None
    held: set[int] = set()
    for _ in range(600):
        try:
            while (message := receive(ours)) is not None:
                if isinstance(message, Given):
                    assert message.connection is not None
                    opened.enter_context(message.connection)
                    held.add(message.page)
                else:
                    held.remove(message.page)
        except BlockingIOError:
            if not held:
                break
        await asyncio.sleep(AGAIN / 2)
    assert not held
    assert connections.watch() is not None


async def test_a_parent_that_has_gone_is_told_nothing(opened: ExitStack) -> None:
    ours, theirs = parted(opened)
    connections = Connections(Witness(theirs, Pages(create_file(8))), opened)
    watched = connections.watch()
    assert watched is not None
    ours.close()
    connections.witness.end(watched)
    assert connections.watch() is None


async def test_what_is_no_tcp_is_not_watched(opened: ExitStack) -> None:
    _, theirs = parted(opened)
    other, _ = map(opened.enter_context, socket.socketpair())
    witness = Witness(theirs, Pages(create_file(8)))
    assert witness.watch(cast("asyncio.Transport", Transport(other)), 1) is None
