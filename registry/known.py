"""What the catalog answered when it was asked last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from .commit_watch import Stamp

REMEMBERED = 4096

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Known(Generic[Key, Value]):
    """Answers that are good until anybody commits anything. Safe from any thread.

    stamp: what differs after each commit; None where that cannot be said, so nothing is known.
    """

    def __init__(self, stamp: Callable[[], Stamp | None]) -> None:
        self._stamp = stamp
        self._lock = threading.Lock()
        self._values = OrderedDict[Key, Value]()  # those found last at the end
        self._found_at: Stamp | None = None

    def find(self, key: Key, look_up: Callable[[], Value]) -> Value:
        """What the key means now; what `look_up` raises is not remembered."""
        # Before looking: what is committed meanwhile makes the answer one of before that commit.
        stamp = self._stamp()
        with self._lock:
            if stamp != self._found_at:
                self._values.clear()
                self._found_at = stamp
            known = self._values.get(key)
        if known is not None:
            return known
        value = look_up()
        with self._lock:
            if stamp is not None and stamp == self._found_at:
                self._values[key] = value
                if len(self._values) > REMEMBERED:
                    self._values.popitem(last=False)
        return value
