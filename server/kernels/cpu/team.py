"""Threads that work on one thing together."""

from __future__ import annotations

import threading
from collections.abc import Callable

Work = Callable[[int], None]
"""Called by every member with its own number; the caller's is 0."""


class Team:
    """The calling thread and `size - 1` others, which sleep while there is nothing to do.

    What is worked on must be whole when the caller's part returns, whether the others came or not;
    one that comes late finds nothing left to do. Nobody waits for it.
    """

    def __init__(self, size: int) -> None:
        self._awake = threading.Condition()
        self._work: Work | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._follow, args=(number,), name="kernels", daemon=True)
            for number in range(1, size)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def size(self) -> int:
        return 1 + len(self._threads)

    def run(self, work: Work) -> None:
        """Have everybody who is free work on it; return when the caller's own part does."""
        with self._awake:
            self._work = work
            self._awake.notify_all()
        work(0)

    def close(self) -> None:
        """Send the others home."""
        with self._awake:
            self._closed, self._work = True, None
            self._awake.notify_all()

    def _follow(self, number: int) -> None:
        known: Work | None = None
        while True:
            with self._awake:
                while self._work is known and not self._closed:
                    self._awake.wait()
                known = self._work
            if self._closed or known is None:
                return
            known(number)
