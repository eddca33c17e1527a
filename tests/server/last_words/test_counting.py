"""The kernel's count of a connection's bytes, which says where an answer broke off."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from server.last_words.counting import can_count, taken

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts so")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as connection,
    ):
        connection.setblocking(False)
        yield client, connection


def test_linux_counts() -> None:
    assert can_count()


def test_what_a_slow_reader_has_left_is_counted(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, connection = pair
    sent = read = 0
    assert taken(connection) == 0
    for _ in range(50):
        with suppress(BlockingIOError):
            while True:
                sent += connection.send(b"x" * 99_991)
        assert taken(connection) == sent
        read += len(client.recv(1 << 20))
        assert taken(connection) == sent
    while read < sent:
        read += len(client.recv(1 << 20))
        assert taken(connection) == sent
    copy = connection.dup()
    connection.close()
    with copy:
        assert taken(copy) == sent == read


def test_other_sockets_have_no_count() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="not supported"):
        taken(ours)
