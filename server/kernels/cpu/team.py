"""Threads that work on one thing together."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

Work = Callable[[int], None]
"""Called by every member with its own number; the caller's is 0."""


class Team:
    """The calling thread and `size - 1` others, which sleep while there is nothing to do.

    What is worked on must be whole when the caller's part returns, whether the others came or not;
    one that comes late finds nothing left to do. Nobody waits for it. The others leave when the
    team is forgotten.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._board = _Board()
        weakref.finalize(self, self._board.close)
        for number in range(1, size):
            threading.Thread(
                target=_follow, args=(self._board, number), name=f"kernels-{number}", daemon=True
            ).start()

    def run(self, work: Work) -> None:
        """Have everybody who is free work on it; return when the caller's own part does."""
        self._board.post(work)
        work(0)
        self._board.wipe()


class _Board:
    """Where the team's work is written up, and how many works have been."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._work: Work | None = None
        self._count = 0
        self._closed = False

    def post(self, work: Work) -> None:
        with self._changed:
            self._work = work
            self._count += 1
            self._changed.notify_all()

    def wipe(self) -> None:
        with self._changed:
            self._work = None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next(self, count: int) -> tuple[int, Work | None]:
        """Wait for a work later than the one of this count; None when there will be no more."""
        with self._changed:
            while not self._closed and (self._work is None or self._count == count):
                self._changed.wait()
            return self._count, None if self._closed else self._work


def _follow(board: _Board, number: int) -> None:
    count, work = board.next(0)
    while work is not None:
        work(number)
        work = None  # nor what it keeps alive
        count, work = board.next(count)
