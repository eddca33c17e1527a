"""What answers on the port while the serving process is being started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from server.errors import Unavailable

PATIENCE = 5.0  # seconds for a request's head to come, and for its rest to be read away
LONGEST_HEAD = 1 << 16
CROWD = 512  # connections answered at once; others wait for their turn


class StandIn:
    """Answers 503 with Retry-After on a listening socket for as long as the context lasts.

    `/healthz` stays 200, for somebody is at work on it. retry_after: asked at each answer for the
    seconds that the start should still take.
    """

    def __init__(self, listener: socket.socket, retry_after: Callable[[], float]) -> None:
        self._listener = listener
        self._retry_after = retry_after
        self._places = asyncio.Semaphore(CROWD)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> StandIn:
        self._server = await asyncio.start_server(
            self._answer, sock=self._listener.dup(), limit=LONGEST_HEAD
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take no further connection; those that were taken are answered yet."""
        assert self._server is not None
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with self._places, asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(answer(head, self._retry_after()))
                writer.write_eof()
                # A connection that is closed with bytes unread is reset, and the answer lost.
                while await reader.read(LONGEST_HEAD):
                    pass
        writer.close()


def answer(head: bytes, retry_after: float) -> bytes:
    """The reply to a request, by the path that its head names."""
    path = head.split(b" ", 2)[1].partition(b"?")[0] if head.count(b" ") > 1 else b""
    reason = "the server is being restarted"
    if path == b"/healthz":
        return _reply(HTTPStatus.OK, {"status": reason})
    if path == b"/readyz":
        body = {"status": "not ready", "reasons": [reason], "warnings": []}
        return _reply(HTTPStatus.SERVICE_UNAVAILABLE, body, _wait(retry_after))
    return refusal(retry_after)


def refusal(retry_after: float) -> bytes:
    """The reply to whoever has to ask again, after so many seconds."""
    error = Unavailable("The server is being restarted; try again.")
    details = {"message": error.message, "type": error.type, "param": None, "code": error.code}
    return _reply(HTTPStatus.SERVICE_UNAVAILABLE, {"error": details}, _wait(retry_after))


def _wait(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def _reply(status: HTTPStatus, body: dict[str, Any], more: dict[str, str] | None = None) -> bytes:
    content = json.dumps(body).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        "Connection": "close",
        **(more or {}),
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content
