"""How often sequences end: what somebody who finds every place taken is told to wait."""

from __future__ import annotations

import time
from collections import deque

REMEMBERED = 32
AT_FIRST = 1.0  # seconds, before anything has ended
LONGEST = 60.0  # seconds that anybody is told to wait


class Departures:
    """The newest ends of sequences, by a clock that only goes forward."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        self._booked_until = 0.0  # by the same clock

    def book(self) -> float:
        """Seconds until a place should be free that nobody else was told of.

        Whoever is refused gets the end after the one that the last was told to come back for, so
        that they do not all come back for one place.
        """
        now = time.monotonic()
        first = max(self._booked_until, now)
        self._booked_until = min(first + self.next_in(), now + LONGEST)
        return self._booked_until - now

    def note(self) -> None:
        """A sequence has ended, or was given up."""
        self._times.append(time.monotonic())

    def next_in(self) -> float:
        """Seconds until a place should be free: the mean time between the newest ends.

        If nothing has ended for longer than that, as long again as it has been.
        """
        if not self._times:
            return AT_FIRST
        quiet = time.monotonic() - self._times[-1]
        if len(self._times) == 1:
            return max(quiet, AT_FIRST)
        mean = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
        return max(mean, quiet)
