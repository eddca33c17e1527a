"""Who may wait, at whose cost, and what those who may not are told."""

from __future__ import annotations

from typing import NamedTuple

from server.engine.departures import Departures
from server.engine.promises import Promises
from server.engine.request import GenerationRequest
from server.engine.sequence import Sequence
from server.engine.waiting import WaitingLines
from server.errors import QueueFull


class Entry(NamedTuple):
    """Somebody may wait. is_promised: the place was kept; displaced: who has to go for it."""

    is_promised: bool = False
    displaced: Sequence | None = None


class WaitingRoom:
    """So many places, for sequences that run and others that wait.

    Where they are all taken, whoever comes for an account that has fewer waiting than another takes
    the newest one's of that. Whoever is refused is told when a place should be free, and up to half
    of the places to wait in are kept for those who come back then; but not from accounts that have
    nobody waiting, and a place that was promised is taken for such ones only.
    """

    def __init__(self, lines: WaitingLines, *, max_batch: int, max_waiting: int) -> None:
        self._lines = lines
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._departures = Departures()
        self._promises = Promises(most=max_waiting // 2)

    def enter(self, request: GenerationRequest, num_inside: int) -> Entry:
        """Take one more in beside so many that run and wait. Raises QueueFull."""
        if num_inside == 0:
            self._departures.begin()
        # Between two steps those that the batch has places for wait too, and are not the queue.
        num_free = self._max_batch + self._max_waiting - num_inside
        has_none = request.account not in self._lines.accounts
        is_promised = self._promises.redeem(request)
        displaced = None
        if num_free <= 0 or not (is_promised or has_none or num_free > self._promises.num_kept):
            displaced = self._lines.newest_of_most(than=request.account)
            if displaced is None:
                raise self.refusal(request)
        if not is_promised:
            self._promises.drop(request)
        return Entry(is_promised, displaced)

    def refusal(self, request: GenerationRequest) -> QueueFull:
        """What somebody is told for whom there is no place."""
        retry_after = self._promises.repeat(request)
        if retry_after is None:
            retry_after = self._promises.give(request, self._departures.book())
        return QueueFull(
            f"{self._max_batch} requests may run and {self._max_waiting} wait, and all these "
            "places are taken",
            retry_after=retry_after,
        )

    def note_departure(self) -> None:
        """A sequence has ended, or was given up."""
        self._departures.note()
