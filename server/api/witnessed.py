"""HTTP of which somebody else can end the answers, should this process die."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from server.last_words import Watched, Witness

from .heads import BoundedHeads

VISITOR = "handed_over"  # in a connection's state: the number by which the parent knows it


class WitnessedHttp(BoundedHeads):
    """The witness is told of a connection with its first request; silent ones need nobody."""

    def __init__(self, witness: Witness, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._witness = witness
        self._is_new = True
        self._watched: Watched | None = None

    def on_headers_complete(self) -> None:
        if self._is_new:
            self._watch()
        super().on_headers_complete()
        if not self.pipeline:
            self._asked()

    def on_response_complete(self) -> None:
        is_next_waiting = bool(self.pipeline)
        super().on_response_complete()
        if is_next_waiting and not self.transport.is_closing():
            self._asked()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._watched is not None:
            self._witness.end(self._watched)

    def _watch(self) -> None:
        self._is_new = False
        self._watched = self._witness.watch(self.transport, self.app_state.get(VISITOR, 0))
        if self._watched is not None:
            self.transport = cast(asyncio.Transport, self._watched.written)

    def _asked(self) -> None:
        if self._watched is not None:
            self._watched.written.asked()
