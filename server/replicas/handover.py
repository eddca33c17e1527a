"""Connections passed from one process to another.

On the channel of orders, each message is a header (the connection's number, and how many bytes were
read from it already), the connection's file descriptor beside it, then those bytes. The number
LEAVE comes alone. What is said back are a child's notices.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from enum import Enum

LEAVE = 0
_HEADER = struct.Struct("<QQ")


class Order(Enum):
    """What is asked of a replica as a whole."""

    LEAVE = LEAVE  # finish what it has; a second time, at once


@dataclass(frozen=True)
class Handover:
    """A connection as it arrives in another process. `raw` is what was read from it before."""

    number: int
    connection: socket.socket
    raw: bytes


@dataclass(frozen=True)
class Lost:
    """A connection that did not arrive: this process can open no more files."""

    number: int


def hand_over(orders: socket.socket, number: int, connection: socket.socket, raw: bytes) -> None:
    """Send a copy of the connection; blocks while the other side has much to read. OSError."""
    socket.send_fds(orders, [_HEADER.pack(number, len(raw))], [connection.fileno()])
    orders.sendall(raw)


def order_to_leave(orders: socket.socket) -> None:
    orders.sendall(_HEADER.pack(LEAVE, 0))


def receive(orders: socket.socket) -> Handover | Order | Lost | None:
    """Wait for the next connection or order. None: the other side is gone."""
    header, descriptors, _, _ = socket.recv_fds(orders, _HEADER.size, 1)
    if len(header) < _HEADER.size:
        return None
    number, size = _HEADER.unpack(header)
    if number == LEAVE:
        return Order.LEAVE
    raw = _read(orders, size)
    if raw is None:
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    if not descriptors:
        return Lost(number)
    (descriptor,) = descriptors
    return Handover(number, socket.socket(fileno=descriptor), raw)


def _read(channel: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = channel.recv(min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)
