"""One request as bytes, so that a fuzzer can change any part of it, and what an application says.

`METHOD target` on the first line, a header on each line after it, an empty line, the body.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

_SECONDS = 10.0
_FOLLOWED = 0.02  # seconds after which a follower of events leaves
_TARGET = re.compile(r"/[\x21-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True)
class Asked:
    """A request as it came off a socket."""

    method: str
    target: str  # path and query
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @classmethod
    def parse(cls, content: bytes) -> Asked:
        """Whatever the bytes are; what is missing is empty."""
        head, _, body = content.partition(b"\n\n")
        first, *lines = head.decode("latin-1").split("\n")
        method, _, target = first.partition(" ")
        headers = tuple(
            (name.strip().lower(), value.strip())
            for name, colon, value in (line.partition(":") for line in lines)
            if colon
        )
        return cls(method.upper(), target, headers, body)

    def to_bytes(self) -> bytes:
        lines = [
            f"{self.method} {self.target}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\n".join(lines).encode("latin-1", "replace") + b"\n\n" + self.body

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def is_http(self) -> bool:
        """Whether a server would hand it to an application at all."""
        names = (name for name, _ in self.headers)
        is_target = _TARGET.fullmatch(self.target) is not None
        return is_target and all(map(_TOKEN.fullmatch, (self.method, *names)))

    @property
    def is_followed(self) -> bool:
        """Whether it asks for events that go on for ever."""
        return self.path.endswith("/events")

    def scope(self) -> dict[str, Any]:
        path, _, query = self.target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": path.encode("latin-1", "replace"),
            "query_string": query.encode("latin-1", "replace"),
            "root_path": "",
            "headers": [
                (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
                for name, value in (("host", "test"), *self.headers)
            ],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
            "state": {},
        }


@dataclass
class Said:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


async def ask(app: ASGIApp, asked: Asked, *, seconds: float = _SECONDS) -> Said:
    """One request to the application, read to its end."""
    said, gone, sent = Said(), asyncio.Event(), False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await gone.wait()
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": asked.body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            said.status = message["status"]
            said.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in message["headers"]
            }
            if said.is_stream and asked.is_followed:
                asyncio.get_running_loop().call_later(_FOLLOWED, gone.set)
            return
        said.body += message.get("body", b"")
        if not message.get("more_body", False):
            gone.set()

    async with asyncio.timeout(seconds):
        await app(asked.scope(), receive, send)
    return said


def split(content: bytes) -> tuple[bytes, bytes]:
    """The request as JSON, for mutations of its parts."""
    asked = Asked.parse(content)
    try:
        body: Any = json.loads(asked.body)
    except (ValueError, RecursionError):
        body = asked.body.decode("latin-1")
    values = [asked.method, asked.target, dict(asked.headers), body]
    return json.dumps(values).encode(), b""


def join(value: Any, _rest: bytes, _chance: Random) -> bytes:
    """The request that such a value means; what is no text or list any more becomes one."""
    parts = [*value, "", "", "", ""] if isinstance(value, list) else ["", "", "", value]
    method, target, headers, body = parts[:4]
    pairs = headers.items() if isinstance(headers, dict) else ()
    written = tuple((str(name), str(item)) for name, item in pairs)
    text = body if isinstance(body, str) else json.dumps(body)
    content = text.encode("latin-1", "replace")
    return Asked(str(method), str(target), written, content).to_bytes()
