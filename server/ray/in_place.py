"""An ASGI application asked without a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Question:
    """A whole request, as it travels between processes."""

    method: str
    path: str
    query: bytes = b""
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    client: tuple[str, int] | None = None

    @property
    def scope(self) -> Scope:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": None,
            "state": {},
        }


@dataclass(frozen=True)
class Head:
    """How an answer begins."""

    status: int
    headers: Headers


class InPlace:
    """Runs an application's lifespan, and answers questions with it."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._started = asyncio.Event()
        self._leaving = asyncio.Event()
        self._life = asyncio.create_task(self._live())

    async def start(self) -> None:
        """Until it can be asked. Raises what the application's start does."""
        started = asyncio.create_task(self._started.wait())
        await asyncio.wait((started, self._life), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._life.done():
            await self._life

    async def stop(self) -> None:
        self._leaving.set()
        await self._life

    async def ask(self, question: Question) -> AsyncGenerator[Head | bytes, None]:
        """The answer's head, then pieces of its body; closing this is going away."""
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        task = asyncio.create_task(self._run(question, messages))
        try:
            while (message := await messages.get()) is not None:
                if message["type"] == "http.response.start":
                    yield Head(message["status"], list(message["headers"]))
                elif piece := _joined(message, messages):
                    yield piece
            await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def status(self, path: str) -> int:
        """The status of a GET."""
        async with contextlib.aclosing(self.ask(Question("GET", path))) as pieces:
            head = await anext(pieces)
        assert isinstance(head, Head)
        return head.status

    async def _run(self, question: Question, messages: asyncio.Queue[Message | None]) -> None:
        async def send(message: Message) -> None:
            messages.put_nowait(message)

        try:
            await self._app(question.scope, _receiving(question.body), send)
        finally:
            messages.put_nowait(None)

    async def _live(self) -> None:
        """In one task, which is what the lifespan's scopes ask for."""
        async with self._app.router.lifespan_context(self._app):
            self._started.set()
            await self._leaving.wait()


def _receiving(body: bytes) -> Receive:
    """Gives the body once, then waits: whoever goes away cancels who asks."""
    is_given = False

    async def receive() -> Message:
        nonlocal is_given
        if is_given:
            await asyncio.Event().wait()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _joined(message: Message, messages: asyncio.Queue[Message | None]) -> bytes:
    """A piece of the body and those that have come meanwhile: hops cost by the piece."""
    pieces = [message.get("body", b"")]
    while not messages.empty():
        following = messages.get_nowait()
        if following is None:
            messages.put_nowait(None)
            break
        pieces.append(following.get("body", b""))
    return b"".join(pieces)
