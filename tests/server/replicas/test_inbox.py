"""A replica that is told to leave goes on listening to its parent."""

from __future__ import annotations

import queue
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from server.api.draining import DrainingServer
from server.replicas.handover import hand_over, order_to_leave
from server.replicas.inbox import Inbox
from server.supervision import Notice, Tell
from tests.server.api.fakes import make_site

PATIENCE = 60.0  # seconds until what does not come counts as broken
A_DAY = 86_400.0


class Replica:
    """One whose drain lasts longer than any test."""

    def __init__(self, orders: socket.socket, tell: Tell) -> None:
        site = make_site()
        self._inbox = Inbox(orders, tell, 0)
        self._server = DrainingServer(
            site.app,
            site.readiness,
            drain_timeout=A_DAY,
            drain_delay=A_DAY,
            announce=self._inbox.open,
        )

    def run(self) -> None:
        self._inbox.feed(self._server)
        self._server.run(sockets=[])


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, threading.Thread]]:
    """Where orders are given, and the thread that the replica runs in."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # which only a main thread may call
    with ExitStack() as stack:
        orders, theirs = map(stack.enter_context, map(closing, socket.socketpair()))
        orders.settimeout(PATIENCE)
        notices = queue.Queue[Notice]()
        thread = threading.Thread(target=Replica(theirs, notices.put).run, daemon=True)
        thread.start()
        assert notices.get(timeout=PATIENCE) == Notice("serving")
        yield orders, thread
        for _ in range(2):
            order_to_leave(orders)
        orders.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


def answer(orders: socket.socket, number: int) -> bytes:
    """The beginning of what a visitor hears."""
    client, visit = socket.socketpair()
    with client:
        client.settimeout(PATIENCE)
        with visit:
            hand_over(orders, number, visit, b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
        return client.recv(12)


def test_who_comes_while_it_leaves_is_answered(
    parent: tuple[socket.socket, threading.Thread],
) -> None:
    orders, _ = parent
    assert answer(orders, 1) == b"HTTP/1.1 200"
    order_to_leave(orders)
    assert answer(orders, 2) == b"HTTP/1.1 503"
    assert answer(orders, 3) == b"HTTP/1.1 503"


def test_told_twice_it_leaves_at_once(parent: tuple[socket.socket, threading.Thread]) -> None:
    orders, thread = parent
    order_to_leave(orders)
    order_to_leave(orders)
    thread.join(PATIENCE)
    assert not thread.is_alive()
