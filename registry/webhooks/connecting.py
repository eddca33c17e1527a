"""Connections to receivers: to checked addresses only, and over at a deadline."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

from .addresses import Reach


class GuardedBackend(httpcore.NetworkBackend):
    """Resolves a host once, and connects to an address that is allowed."""

    def __init__(self, reach: Reach, seconds: float) -> None:
        self._reach = reach
        self._until = time.monotonic() + seconds
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._reach.resolve(host, port)
        except OSError as failure:
            raise httpcore.ConnectError(str(failure)) from failure
        for last, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._left(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if last == 0:
                    raise
            else:
                return _DeadlineStream(stream, self._left)
        raise httpcore.ConnectError(f"{host} has no address")

    def _left(self, timeout: float | None) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the receiver took too long")
        return left if timeout is None else min(left, timeout)


class _DeadlineStream(httpcore.NetworkStream):
    """A stream that ends for good at the deadline, however often a byte comes."""

    def __init__(
        self, stream: httpcore.NetworkStream, left: Callable[[float | None], float]
    ) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._left(timeout))
        return _DeadlineStream(stream, self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
