"""`hatstand serve`: from settings to a server that answers."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from registry.logs import configure_logging
from server.api.listener import bind
from server.api.silence import raise_file_limit
from server.assembly import Report, assemble, check_base
from server.errors import StartupError
from server.interpreter import collecting_later
from server.settings import Settings

if TYPE_CHECKING:
    from server.last_words import Witness

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C, in a process that is started again if it dies.

    Raises StartupError when it cannot start as asked, EngineStopped when it could not go on.
    """
    configure_logging(settings.log_format)
    raise_file_limit()  # each connection is one; the processes that we start inherit it
    listener = bind(settings.host, settings.port)
    with contextlib.closing(listener):
        settings = replace(settings, port=listener.getsockname()[1])
        if settings.replicas > 1:
            _serve_replicas(settings, listener)
        elif settings.supervised:
            from server.supervision import supervise

            supervise(settings, listener)
        else:
            serve_on(listener, settings)


def _serve_replicas(settings: Settings, listener: socket.socket) -> None:
    """Serve with a process for each replica, all behind one socket."""
    from server.replicas import serve_replicas

    check_base(settings.base)
    line = f"Serving {settings.base} on {settings.url} with {settings.replicas} replicas"
    console = Console(stderr=True)
    serve_replicas(
        settings, listener, assemble, lambda: console.print(f"{line} (Ctrl-C stops)", markup=False)
    )


def serve_on(
    listener: socket.socket,
    settings: Settings,
    *,
    announce: Callable[[], None] = lambda: None,
    witness: Witness | None = None,
) -> None:
    """Serve on a socket, in this process. `announce` is called once requests are taken.

    Raises StartupError and EngineStopped.
    """
    console = Console(stderr=True)

    def say() -> None:
        console.print(f"Serving {settings.base} on {settings.url} (Ctrl-C stops)", markup=False)
        announce()

    with _progress(console) as report, collecting_later():
        server = assemble(settings, report, announce=say)
    if witness is not None:
        server.be_witnessed(witness)
    server.serve_out([listener])


@contextlib.contextmanager
def serving(settings: Settings, report: Report | None = None) -> Iterator[str]:
    """A server in a thread of its own, for as long as the context lasts. Yields its URL."""
    listener = bind(settings.host, settings.port)
    settings = replace(settings, port=listener.getsockname()[1])
    with contextlib.closing(listener):
        server = assemble(settings, report or _silent)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True
        )
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise StartupError("The HTTP server ended before it began; see the log.")
                thread.join(0.01)
            yield settings.url
        finally:
            server.begin_drain()
            thread.join()


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Report]:
    if not console.is_terminal:
        stages: set[str] = set()
        yield lambda stage, *_: None if stage in stages else _log_stage(stage, stages)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("Starting", total=None)
        yield lambda stage, done, total: progress.update(
            task, description=stage, completed=done, total=total
        )


def _log_stage(stage: str, stages: set[str]) -> None:
    """Where no bar can be drawn, each stage is one line of the log."""
    stages.add(stage)
    logger.info("%s", stage)


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
