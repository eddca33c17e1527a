"""How much of what was written on a connection the kernel has taken."""

from __future__ import annotations

import socket
import struct
import sys

if sys.platform == "linux":
    import fcntl
    import termios

_ACKED = struct.Struct("@Q")
_ACKED_AT = 120  # `tcpi_bytes_acked` in linux/tcp.h's `struct tcp_info`, whose layout is its ABI
_QUEUED = struct.Struct("@i")
_LOOPBACK = "127.0.0.1"


def taken(connection: socket.socket) -> int:
    """Bytes of a TCP connection that its client has, or that the kernel still sends by itself.

    Those that the client has acknowledged, and those in the queue (`SIOCOUTQ`), which is counted
    again where some went from one to the other meanwhile. OSError for other sockets, and where the
    kernel is none that counts.
    """
    acknowledged = _acknowledged(connection)
    while True:
        queued = _queued(connection)
        before, acknowledged = acknowledged, _acknowledged(connection)
        if acknowledged == before:
            return acknowledged + queued


def can_count() -> bool:
    """Whether this system's count is right: some that call themselves Linux leave it at nothing."""
    if sys.platform != "linux":
        return False
    said = b"hello"
    try:
        with (
            socket.create_server((_LOOPBACK, 0)) as listener,
            socket.create_connection(listener.getsockname()) as client,
            listener.accept()[0] as connection,
        ):
            connection.sendall(said)
            client.recv(len(said), socket.MSG_WAITALL)
            connection.sendall(said)
            return taken(connection) == 2 * len(said)
    except OSError:
        return False


def _acknowledged(connection: socket.socket) -> int:
    size = _ACKED_AT + _ACKED.size
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    if len(info) < size:
        raise OSError("this kernel does not tell how many bytes were acknowledged")
    (acknowledged,) = _ACKED.unpack_from(info, _ACKED_AT)
    return int(acknowledged)


def _queued(connection: socket.socket) -> int:
    answer = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(_QUEUED.size))
    (queued,) = _QUEUED.unpack(answer)
    return int(queued)
