"""Waiting for what another thread or process does, for as long as a busy machine may take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx

PATIENCE = 120.0  # seconds after which what does not come counts as broken, however slow
LONGEST_PAUSE = 0.05  # seconds between two looks: who looks all the time holds up what it waits for


def eventually(
    is_so: Callable[[], object], what: str = "it came true", *, within: float = PATIENCE
) -> None:
    """Wait until it is so; connections that fail meanwhile only say that it is not so yet."""
    for pause in _pauses(within):
        with suppress(httpx.TransportError):
            if is_so():
                return
        time.sleep(pause)
    raise AssertionError(f"not within {within:.0f} s: {what}")


async def becomes(is_so: Callable[[], object], what: str = "it came true") -> None:
    """`eventually` for what happens on the event loop that waits."""
    for pause in _pauses(PATIENCE):
        if is_so():
            return
        await asyncio.sleep(pause)
    raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")


def _pauses(within: float) -> Iterator[float]:
    """Short at first, until the time is over."""
    pause, deadline = 0.001, time.monotonic() + within
    while time.monotonic() < deadline:
        yield pause
        pause = min(1.5 * pause, LONGEST_PAUSE)
