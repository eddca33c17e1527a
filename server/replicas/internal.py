"""What the parent asks its replicas itself, over connections like everybody's."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any

import h11

PIECE = 1 << 16


@dataclass(frozen=True)
class Answer:
    """`raw` is the answer as it came, to be passed on."""

    status: int
    body: bytes
    raw: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    def expect(self, *statuses: int) -> Answer:
        """Itself. ConnectionError where its status is none of these."""
        if self.status not in statuses:
            raise ConnectionError(f"a replica answered with status {self.status}")
        return self


def request(method: str, path: str) -> bytes:
    """A request without a body."""
    return f"{method} {path} HTTP/1.1\r\nhost: replica\r\nconnection: close\r\n\r\n".encode()


async def read_answer(connection: socket.socket) -> Answer:
    """The one answer on this connection. ConnectionError when it is cut."""
    loop = asyncio.get_running_loop()
    http, raw, body, status = h11.Connection(h11.CLIENT), bytearray(), bytearray(), 0
    http.send(h11.Request(method="GET", target="/", headers=[("host", "replica")]))
    http.send(h11.EndOfMessage())
    try:
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA:
                data = await loop.sock_recv(connection, PIECE)
                raw += data
                http.receive_data(data)
    except h11.RemoteProtocolError as error:
        raise ConnectionError(f"a replica's answer was cut: {error}") from None
    return Answer(status, bytes(body), bytes(raw))
