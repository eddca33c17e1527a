"""Places in the queue that are kept for those who were told when to come back."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right, insort
from operator import itemgetter

from server.engine.present import Present
from server.engine.request import GenerationRequest

EARLY = 0.5  # seconds before somebody is due from which a place is kept
LATE = 0.5  # seconds after that, before it is given away
REMEMBERED = 4096  # of those who are to come back; more find no place kept
ALIKE = 8  # of those who ask the same: somebody who does not wait is not promised ever more
_WHEN = itemgetter(0)


class Promises:
    """Who was refused and told to come back, and when that is.

    Somebody who comes back is known by asking the same again, as OpenAI's clients do: the adapter,
    the prompt's tokens and whose prefixes it shares.

    most: places that are kept at once; the others stay for whoever comes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._due: list[tuple[float, int]] = []  # when (monotonic seconds), and who; in order
        self._who = Present[int]()

    def give(self, request: GenerationRequest, seconds: float) -> float:
        """The whole seconds after which somebody shall come back: what Retry-After can say."""
        wait = float(max(1, math.ceil(seconds)))
        self._forget_missed()
        if len(self._due) < REMEMBERED:
            who = _identity(request)
            insort(self._due, (time.monotonic() + wait, who))
            self._who[who] += 1
        return wait

    def repeat(self, request: GenerationRequest) -> float | None:
        """The whole seconds that are left of the last promise, where enough were given.

        None where another can be.
        """
        who = _identity(request)
        self._forget_missed()
        if self._who[who] < ALIKE:
            return None
        last = next(when for when, whose in reversed(self._due) if whose == who)
        return float(max(1, round(last - time.monotonic())))

    def redeem(self, request: GenerationRequest) -> bool:
        """Whether a place is kept for this request; it is not any longer."""
        return self._forget_first(request, self._num_due())

    def drop(self, request: GenerationRequest) -> None:
        """Somebody found a place before it was time, and does not come back for another."""
        self._forget_first(request, len(self._due))

    @property
    def num_kept(self) -> int:
        """Places that are kept at the moment."""
        return min(self._num_due(), self._most)

    def _num_due(self) -> int:
        """How many are due about now, which are the first."""
        self._forget_missed()
        return bisect_right(self._due, time.monotonic() + EARLY, key=_WHEN)

    def _forget_missed(self) -> None:
        """Whoever has not come in time finds no place kept."""
        self._forget(0, bisect_left(self._due, time.monotonic() - LATE, key=_WHEN))

    def _forget_first(self, request: GenerationRequest, among: int) -> bool:
        """Whether one of the first so many was this request's."""
        who = _identity(request) if among else 0
        if not self._who[who]:
            return False
        for index in range(among):
            if self._due[index][1] == who:
                self._forget(index, index + 1)
                return True
        return False

    def _forget(self, start: int, end: int) -> None:
        for _, who in self._due[start:end]:
            self._who.take(who)
        del self._due[start:end]


def _identity(request: GenerationRequest) -> int:
    return hash((request.adapter_digest, request.prefix_scope, request.prompt_token_ids))
