"""What `hatstand worker` calls."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from registry.bases import find_base, read_base
from registry.errors import RegistryError
from registry.homes import hatstand_home
from registry.tuning import open_queue
from training.errors import BaseError
from training.foundation import prepare

from .retention import KEPT, Retention

_POLL = 2.0  # seconds between looks into an empty queue

logger = logging.getLogger(__name__)


def work(
    base: str,
    registry: Path | str | None = None,
    *,
    queue: Path | str | None = None,
    once: bool = False,
    keep_checkpoints: int | None = KEPT,
    console: Console | None = None,
) -> int:
    """Run jobs for `base` until SIGTERM; with `once`, until none waits. How many were run.

    Results are pushed to `registry`, a folder or URL. `queue` None: where HATSTAND_TUNING says. Of
    a job's checkpoints the newest `keep_checkpoints` (None: all) and the best one stay versions.
    Raises `BaseError`, and what a queue raises that cannot be opened.
    """
    try:
        folder = find_base(base)
        fingerprint = read_base(folder).fingerprint
    except RegistryError as error:
        raise BaseError(error.message) from error
    prepare()
    from training.memory_use import free_memory

    from .working import Working

    opened = open_queue(queue)
    name = f"{socket.gethostname()}:{os.getpid()}"
    claims = opened.claims(name, fingerprint)
    count = 0
    with contextlib.closing(opened), _ending_on_signals() as ending:
        working = Working(
            opened,
            claims,
            folder,
            registry,
            hatstand_home() / "tuning",
            ending,
            console or Console(),
            Retention(keep_checkpoints),
        )
        logger.info("%s waits for fine-tuning jobs on %s", name, folder)
        while not ending.is_set():
            job = claims.take()
            if job is not None:
                logger.info("%s begins", job.id)
                working.carry_out(job)
                free_memory()  # of one job's base before the next one's
                count += 1
            elif once:
                break
            else:
                ending.wait(_POLL)
    return count


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; the handlers that were there come back afterwards."""
    ending = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield ending  # only the main thread may have handlers
        return
    former = {
        each: signal.signal(each, lambda *_: ending.set())
        for each in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield ending
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)
