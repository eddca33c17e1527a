"""A receiver of webhooks on this machine."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from registry.webhooks.addresses import Reach

HERE = Reach.parse(["127.0.0.0/8", "::1/128"])


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.body)
        return values


@dataclass
class Receiver:
    """What came, and what it is answered with; `drip` sends the answer's bytes one by one."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    status: int = 200
    location: str = ""
    drip: float = 0.0  # seconds between bytes

    @property
    def numbers(self) -> list[int]:
        """The events that came, in the order in which they did."""
        return [each.event["id"] for each in self.received]


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A server in a thread for as long as the context lasts."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.path, headers, body))
            if receiver.drip:
                self._drip()
                return
            self.send_response(receiver.status)
            if receiver.location:
                self.send_header("location", receiver.location)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            receiver.received.append(Received("GET " + self.path, {}, b"{}"))
            self.send_error(404)

        def _drip(self) -> None:
            with contextlib.suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\nx-long: " + 1000 * b"x":
                    self.wfile.write(bytes([byte]))
                    time.sleep(receiver.drip)

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
