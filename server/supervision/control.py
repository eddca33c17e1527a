"""What parent and serving process tell each other, over a pair of connected sockets.

First the parent sends the work, its length before it; then nothing, and the end of the connection
is the end of the parent. The serving process sends lines of JSON, each one `Notice`.
"""

from __future__ import annotations

import json
import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from server.last_words import Witness
from server.settings import Settings

_LENGTH = struct.Struct("!Q")

Kind = Literal["serving", "refused", "missing", "started", "ended", "lost"]


@dataclass(frozen=True)
class Notice:
    """What a serving process says of itself, or of the connection of that `number`.

    `serving`: requests are taken from now on. `refused`: it cannot start as asked, and `text` says
    why. `missing`: nor without the module that `text` names. `started`: an answer has begun, which
    nobody else can give any more. `ended`: the connection is closed. `lost`: it did not arrive,
    since the process can open no more files; another may answer.
    """

    kind: Kind
    text: str = ""
    number: int = 0

    def line(self) -> bytes:
        return json.dumps(vars(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Notice:
        return cls(**json.loads(line))


Tell = Callable[[Notice], None]
Serve = Callable[[socket.socket, Settings, Tell, Witness | None], None]
"""Serves on the socket that a process was handed, until told to leave; the witness, where there is
one, is to see its connections. Raises StartupError and EngineStopped. A function of a module, since
it crosses over to another process."""


@dataclass(frozen=True)
class Work:
    """What a serving process is there for."""

    serve: Serve
    settings: Settings

    def message(self) -> bytes:
        """What the parent sends first."""
        content = pickle.dumps(self)
        return _LENGTH.pack(len(content)) + content

    @classmethod
    def receive(cls, control: socket.socket) -> Work:
        """Read that at the other end. The bytes come from our own parent: unpickling is safe."""
        (length,) = _LENGTH.unpack(_exactly(control, _LENGTH.size))
        work = pickle.loads(_exactly(control, length))  # nosec B301
        assert isinstance(work, Work)
        return work


def _exactly(control: socket.socket, count: int) -> bytes:
    content = control.recv(count, socket.MSG_WAITALL)
    if len(content) < count:
        raise EOFError("the parent left before it said what to serve")
    return content
