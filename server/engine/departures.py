"""How often sequences end: what somebody who finds every place taken is told to wait."""

from __future__ import annotations

import time
from collections import deque

REMEMBERED = 32
AT_FIRST = 0.2  # seconds, before anything has ended
LONGEST = 60.0  # seconds that anybody is told to wait


class Departures:
    """The times between the newest ends of sequences, by a clock that only goes forward.

    Times in which there was nothing that could have ended do not count.
    """

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=REMEMBERED)  # seconds
        self._newest = time.monotonic()  # when the newest ended, or the first since came
        self._booked_until = 0.0  # by the same clock

    def begin(self) -> None:
        """A sequence has come where there was none."""
        self._newest = time.monotonic()

    def note(self) -> None:
        """A sequence has ended, or was given up."""
        now = time.monotonic()
        self._gaps.append(now - self._newest)
        self._newest = now

    def book(self) -> float:
        """Seconds until a place should be free that nobody else was told of.

        Whoever is refused gets the end after the one that the last was told to come back for, so
        that they do not all come back for one place.
        """
        now = time.monotonic()
        first = max(self._booked_until, now)
        self._booked_until = min(first + self.next_in(), now + LONGEST)
        return self._booked_until - now

    def next_in(self) -> float:
        """Seconds until a place should be free: the mean time between the newest ends.

        If nothing has ended for longer than that, as long again as it has been.
        """
        mean = sum(self._gaps) / len(self._gaps) if self._gaps else AT_FIRST
        return max(mean, time.monotonic() - self._newest)
