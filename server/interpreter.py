"""What a process that serves tells Python's interpreter."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_INTERVAL = 0.0005  # seconds


@contextmanager
def collecting_later() -> Iterator[None]:
    """No garbage is looked for meanwhile: for a start, which makes a million objects that stay.

    Going through them again and again is a quarter of the time in which a server starts.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def settle_interpreter() -> None:
    """Call it once everything is loaded, in a process that does nothing but serve.

    What is there stays: the garbage collector need not look through it again. torch and what comes
    with it are a million objects, and going through them stopped every stream for a third of a
    second. What requests leave behind in circles is looked for when a quarter has been added to
    what was left the last time: next to nothing now, and no longer that million. Threads that want
    to go on wait a tenth of what they do elsewhere: the engine's, which has a device to feed, and
    the event loop's, which has a token for everybody.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # counts again, now that nothing of it is left to count
    sys.setswitchinterval(SWITCH_INTERVAL)
