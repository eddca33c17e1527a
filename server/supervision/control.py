"""What parent and serving process tell each other, over a pair of connected sockets.

First the parent sends the settings, their length before them; then nothing, and the end of the
connection is the end of the parent. The serving process sends lines of JSON, each one `Notice`.
"""

from __future__ import annotations

import json
import pickle
import socket
import struct
from dataclasses import asdict, dataclass
from typing import Literal

from server.settings import Settings

_LENGTH = struct.Struct("!Q")

Kind = Literal["serving", "refused", "missing"]


@dataclass(frozen=True)
class Notice:
    """`serving`: requests are taken from now on. `refused`: it cannot start as asked, and `text`
    says why. `missing`: nor without the module that `text` names."""

    kind: Kind
    text: str = ""

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Notice:
        return cls(**json.loads(line))


def settings_message(settings: Settings) -> bytes:
    """What the parent sends first."""
    content = pickle.dumps(settings)
    return _LENGTH.pack(len(content)) + content


def receive_settings(control: socket.socket) -> Settings:
    """Read that at the other end. The bytes come from our own parent, so unpickling is safe."""
    (length,) = _LENGTH.unpack(_exactly(control, _LENGTH.size))
    settings = pickle.loads(_exactly(control, length))  # nosec B301
    assert isinstance(settings, Settings)
    return settings


def _exactly(control: socket.socket, count: int) -> bytes:
    content = control.recv(count, socket.MSG_WAITALL)
    if len(content) < count:
        raise EOFError("the parent left before it said what to serve")
    return content
