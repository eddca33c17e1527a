"""Connections passed from one process to another, and what is said back about them.

On the channel of orders, each message is a header (the connection's number, and how many bytes were
read from it already), the connection's file descriptor beside it, then those bytes. The number
LEAVE comes alone. On the channel of notes, each message is one `Note`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

LEAVE = 0
_HEADER = struct.Struct("<QQ")
_NOTE = struct.Struct("<cQ")


class Word(bytes, Enum):
    """What a replica says of itself, or of a connection."""

    SERVING = b"0"  # it takes connections from now on
    STARTED = b"1"  # an answer has begun: nobody else can give it any more
    ENDED = b"2"  # the connection is closed


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
class Note:
    """`number` is the connection's, or 0."""

    word: Word
    number: int = 0

    def encode(self) -> bytes:
        return _NOTE.pack(self.word.value, self.number)


def hand_over(orders: socket.socket, number: int, connection: socket.socket, raw: bytes) -> None:
    """Send a copy of the connection; blocks while the other side has much to read. OSError."""
    socket.send_fds(orders, [_HEADER.pack(number, len(raw))], [connection.fileno()])
    orders.sendall(raw)


def order_to_leave(orders: socket.socket) -> None:
    orders.sendall(_HEADER.pack(LEAVE, 0))


def receive(orders: socket.socket) -> Handover | Order | None:
    """Wait for the next connection or order. None: the other side is gone."""
    header, descriptors, _, _ = socket.recv_fds(orders, _HEADER.size, 1)
    if len(header) < _HEADER.size:
        return None
    number, size = _HEADER.unpack(header)
    if number == LEAVE:
        return Order.LEAVE
    (descriptor,) = descriptors
    raw = _read(orders, size)
    if raw is None:
        os.close(descriptor)
        return None
    return Handover(number, socket.socket(fileno=descriptor), raw)


def split_notes(data: bytes) -> tuple[list[Note], bytes]:
    """Whole notes, and the beginning of the next."""
    end = len(data) - len(data) % _NOTE.size
    return list(_notes(data[:end])), data[end:]


def _notes(data: bytes) -> Iterator[Note]:
    for word, number in _NOTE.iter_unpack(data):
        yield Note(Word(word), number)


def _read(channel: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = channel.recv(min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)
