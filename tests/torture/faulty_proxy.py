"""A TCP proxy that becomes slow, wrong or deaf when it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["passing", "refusing", "failing", "wrong", "slow", "deaf"]
ANSWERS = {
    "failing": b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops",
    "wrong": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n<html>hi\n",
}
PIECE, PAUSE = 16, 0.05  # bytes and seconds of whoever is slow


class FaultyProxy:
    """Stands before a server. `passing`: as it is; `refusing`: hangs up at once; `failing`: answers
    500; `wrong`: answers 200 and a page; `slow`: a few bytes at a time; `deaf`: takes connections
    and bytes, and says nothing for ever."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._behind = (place.hostname or "", place.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._mode: Mode = "passing"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def become(self, mode: Mode) -> None:
        """From now on, also for who is connected: unless it turns deaf, they are cut."""
        self._mode = mode
        if mode != "deaf":
            self._cut()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing it alone would wake nobody
        self._accepting.join()
        self._listener.close()
        self._cut()

    def _cut(self) -> None:
        connections, self._open = self._open, []
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            mode = self._mode
            if mode == "refusing":
                client.close()
            elif mode in ANSWERS:
                answer = client, ANSWERS[mode]
                threading.Thread(target=self._answer, args=answer, daemon=True).start()
            elif mode in ("passing", "slow"):
                server = socket.create_connection(self._behind)
                self._open.append(server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _answer(self, client: socket.socket, answer: bytes) -> None:
        with contextlib.suppress(OSError), client:
            client.recv(1 << 16)
            client.sendall(answer)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(PIECE if self._mode == "slow" else 1 << 16):
                if self._mode == "slow":
                    threading.Event().wait(PAUSE)
                while self._mode == "deaf":  # half open: neither bytes nor an end come through
                    threading.Event().wait(0.05)
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)
