"""Where references led when they were asked for last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from .canary.record import Route
from .commit_watch import Stamp
from .references import Reference

REMEMBERED = 4096


class KnownRoutes:
    """Good until anybody commits anything. Safe from any thread.

    stamp: what differs after each commit; None where that cannot be said, so nothing is known.
    """

    def __init__(self, stamp: Callable[[], Stamp | None]) -> None:
        self._stamp = stamp
        self._lock = threading.Lock()
        self._routes = OrderedDict[Reference, Route]()  # those found last at the end
        self._found_at: Stamp | None = None

    def find(self, reference: Reference, look_up: Callable[[], Route]) -> Route:
        """Where a reference leads now; what `look_up` raises is not remembered."""
        # Before looking: what is committed meanwhile makes the answer one of before that commit.
        stamp = self._stamp()
        with self._lock:
            if stamp != self._found_at:
                self._routes.clear()
                self._found_at = stamp
            known = self._routes.get(reference)
        if known is not None:
            return known
        route = look_up()
        with self._lock:
            if stamp is not None and stamp == self._found_at:
                self._routes[reference] = route
                if len(self._routes) > REMEMBERED:
                    self._routes.popitem(last=False)
        return route
