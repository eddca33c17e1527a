"""The socket that requests arrive on."""

from __future__ import annotations

import errno
import socket

from server.errors import StartupError


def bind(host: str, port: int) -> socket.socket:
    """A socket that holds the port, before minutes go into loading. Raises StartupError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StartupError(f"--host {host} is no address of this machine: {error}.") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise StartupError(_why_not_bound(host, port, error)) from error
    return listener


def _why_not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken: another server may be running there. "
            f"Choose another with --port {port + 1 if port < 65535 else port - 1}."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs privileges this user lacks. Choose one above 1023 with --port."
    return f"Cannot serve on {host}:{port}: {error.strerror or error}."
