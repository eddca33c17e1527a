"""A serving process, as its parent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping

from server.errors import StartupError
from server.last_words import Heir

from .control import Notice, Work


class ChildEnded(Exception):
    """The process ended before it took a request."""

    def __init__(self, how: str) -> None:
        super().__init__(f"The server {how} before it took a request.")


class Child:
    """One process that serves through a socket which its parent hands it.

    It has a session of its own, so that Ctrl-C reaches it through its parent alone, and leaves as
    if it had been told to when the parent is gone.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        heir: Heir | None,
    ) -> None:
        self._process = process
        self._heir = heir
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(
        cls,
        work: Work,
        handed: socket.socket,
        environ: Mapping[str, str] | None = None,
        heir: Heir | None = None,
    ) -> Child:
        """Begin the work; `environ` is added to our own environment.

        A process has that from its first instruction: CUDA reads which GPUs there are once, and
        what imports torch on the way may ask for that before anybody could set anything. heir: who
        ends the answers that it dies over.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            if heir is not None:
                undo.callback(heir.close)
            files = (theirs.fileno(), handed.fileno(), *(heir.inherited if heir else ()))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "server.supervision.inside", *map(str, files)),
                pass_fds=files,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environ or {})},
                start_new_session=True,
            )
            undo.pop_all()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(work.message())
        if heir is not None:
            heir.attend()
        return cls(process, reader, writer, heir)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """How it ended: its exit status, or a signal's number below zero; None while it runs."""
        return self._process.returncode

    async def serving(self) -> None:
        """Return once it takes requests.

        Raises StartupError if it cannot start as asked, ModuleNotFoundError if something is not
        installed, ChildEnded if it died of something else.
        """
        notice = await self._next()
        if notice is None:
            raise ChildEnded(how_it_ended(await self.wait()))
        if notice.kind == "serving":
            return
        await self.wait()
        if notice.kind == "missing":
            raise ModuleNotFoundError(f"No module named {notice.text!r}", name=notice.text)
        raise StartupError(notice.text)

    async def notices(self) -> AsyncIterator[Notice]:
        """What it says while it serves, until it ends."""
        while notice := await self._next():
            yield notice

    async def wait(self) -> int:
        """Its exit status, once it has ended, and what it had not said has been said."""
        status = await self._process.wait()
        self._writer.close()
        if self._heir is not None:
            self._heir.speak()
        return status

    def terminate(self) -> None:
        """Ask it to drain and leave; asked again, it cuts what still runs."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    async def _next(self) -> Notice | None:
        """None once it has ended, be it in the middle of a line or with our message unread."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return Notice.read(line) if line.endswith(b"\n") else None

    def _send(self, number: signal.Signals) -> None:
        if self.status is None:
            self._process.send_signal(number)


def how_it_ended(status: int) -> str:
    """In words: "ended with status 1", "was ended by SIGKILL"."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
