"""A server on one core and its clients on another, where the system lets them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from server.settings import Settings
from tests.torture.site import server_process
from tests.torture.watching import serving_process


@contextlib.contextmanager
def served_apart(settings: Settings) -> Iterator[tuple[str, int]]:
    """The URL of a server, and the id of the process that serves.

    It is started on its core, so that torch takes one thread: a second one, that was counted on
    while there were two cores, would wait busily for its turn on the one.
    """
    cores = _cores()
    with contextlib.ExitStack() as stack:
        _keep_to(cores[-1:])
        try:
            url, process = stack.enter_context(server_process(settings))
        finally:
            _keep_to(cores[:1])
        stack.callback(_keep_to, cores)
        yield url, serving_process(process.pid)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _keep_to(cores: list[int]) -> None:
    """Run every thread of this process on these cores, and what it starts from now on."""
    with contextlib.suppress(AttributeError, OSError):
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)
