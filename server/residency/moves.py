"""The newest comings and goings of adapters, for whoever watches the machine."""

from __future__ import annotations

import time
from collections import deque
from typing import Literal

from server.engine.request import AdapterMove

MOST = 64


class Moves:
    """Written by the engine's thread; `newest` is a copy."""

    def __init__(self) -> None:
        self._moves: deque[AdapterMove] = deque(maxlen=MOST)

    def note(self, label: str, kind: Literal["host", "slot", "out"]) -> None:
        self._moves.append(AdapterMove(time.time(), label, kind))

    @property
    def newest(self) -> tuple[AdapterMove, ...]:
        """Oldest first."""
        return tuple(self._moves)
