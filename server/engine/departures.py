"""How often sequences end: what somebody who finds every place taken is told to wait."""

from __future__ import annotations

import time
from collections import deque

REMEMBERED = 32
AT_FIRST = 1.0  # seconds, before anything has ended


class Departures:
    """The newest ends of sequences, by a clock that only goes forward."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=REMEMBERED)

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
