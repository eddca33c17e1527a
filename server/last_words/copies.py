"""Copies of connections, given by a process to its parent and given up again.

Each message on the channel is one record: the connection's page, and the number by which the parent
knows it, with the connection's file descriptor beside it; or the page alone, to be given up.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

_RECORD = struct.Struct("@IQ?")


@dataclass(frozen=True)
class Given:
    """`connection` is None where it did not arrive: this process can open no more files."""

    page: int
    number: int
    connection: socket.socket | None


@dataclass(frozen=True)
class GivenUp:
    page: int


def channel() -> tuple[socket.socket, socket.socket]:
    """The parent's end and the child's; neither ever waits for the other. OSError."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def give(channel: socket.socket, page: int, number: int, file: int) -> None:
    """OSError where too many are on their way."""
    socket.send_fds(channel, [_RECORD.pack(page, number, True)], [file])


def give_up(channel: socket.socket, page: int) -> None:
    """BlockingIOError where the other side has too much to read."""
    channel.send(_RECORD.pack(page, 0, False))


def receive(channel: socket.socket) -> Given | GivenUp | None:
    """The next of them. None: the other side has gone. BlockingIOError where there is none."""
    record, files, _, _ = socket.recv_fds(channel, _RECORD.size, 1)
    if not record:
        return None
    page, number, is_given = _RECORD.unpack(record)
    if not is_given:
        return GivenUp(page)
    return Given(page, number, socket.socket(fileno=files[0]) if files else None)
