"""A connection's first request, read as far as is needed to know who answers it."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, field
from typing import Any

import h11

from server.api.wishes import ADAPTER
from server.errors import InvalidRequest

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
MODEL_IN_BODY = {
    "/v1/chat/completions": "model",
    "/v1/completions": "model",
    "/v1/embeddings": "model",
    "/v1/responses": "model",
    LOAD: "lora_name",
    UNLOAD: "lora_name",
}
PIECE = 1 << 16
MOST_HEADERS = 1 << 16  # bytes
PATIENCE = 30.0  # seconds for a request to arrive


@dataclass(eq=False)
class Visit:
    """`raw` is all that was read. A whole request can be asked again elsewhere."""

    connection: socket.socket
    method: str
    path: str
    raw: bytes
    model: str = ""  # "": any replica will do
    is_whole: bool = False
    tried: list[int] = field(default_factory=list)  # replicas that had it and did not answer


async def read_visit(connection: socket.socket, max_body: int) -> Visit | None:
    """The next visit; None when the client leaves without asking anything.

    Requests that name a model are read to their end, others to the end of their headers: whoever
    answers reads on. So is one with a larger body than `max_body`, which a replica refuses. Raises
    InvalidRequest, and TimeoutError after PATIENCE seconds.
    """
    reading = _Reading(connection)
    try:
        async with asyncio.timeout(PATIENCE):
            request = await reading.next()
            if not isinstance(request, h11.Request):
                return None
            visit = _visit(connection, request)
            if visit.method == "POST" and visit.path in MODEL_IN_BODY:
                body = await reading.body(max_body)
                visit.is_whole = body is not None
                named = _header(request, ADAPTER)
                visit.model = named or model_of(visit.method, visit.path, body or b"")
    except h11.RemoteProtocolError as error:
        raise InvalidRequest(f"This is not HTTP as this server reads it: {error}.") from None
    visit.raw = bytes(reading.raw)
    return visit


class _Reading:
    """h11 over a socket of asyncio's, keeping every byte."""

    def __init__(self, connection: socket.socket) -> None:
        self.raw = bytearray()
        self._connection = connection
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADERS)

    async def next(self) -> Any:
        """The next event of h11."""
        loop = asyncio.get_running_loop()
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await loop.sock_sendall(self._connection, self._go_on())
            data = await loop.sock_recv(self._connection, PIECE)
            self.raw += data
            self._http.receive_data(data)
        return event

    async def body(self, most: int) -> bytes | None:
        """None when it is larger."""
        body = bytearray()
        while isinstance(event := await self.next(), h11.Data):
            body += event.data
            if len(body) > most:
                return None
        return bytes(body)

    def _go_on(self) -> bytes:
        said = self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
        return said or b""


def _visit(connection: socket.socket, request: h11.Request) -> Visit:
    path = request.target.partition(b"?")[0].decode("ascii", "replace")
    return Visit(connection, request.method.decode("ascii"), path, b"")


def _header(request: h11.Request, name: str) -> str:
    found = dict(request.headers).get(name.encode(), b"")
    return bytes(found).decode("latin-1")


def model_of(method: str, path: str, body: bytes) -> str:
    """The model that a request names; "" where any replica will do.

    So it is for a body that names nothing, or is no JSON: any replica can refuse it.
    """
    if method != "POST" or path not in MODEL_IN_BODY:
        return ""
    try:
        value = json.loads(body)[MODEL_IN_BODY[path]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""
