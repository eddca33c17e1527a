"""Whose prompt is computed first, and how much of a step one adapter may have.

Adapters are told apart by their account (`AdapterRef.account`), under which compositions count as
one of their parts.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 256  # adapters, before those whose turns have passed are forgotten
RECENT = 0.25  # seconds for which an adapter counts as asked for: a client may ask again at once


class FairTurns:
    """Weighted fair queueing over adapters: a turn for each prompt, by which they are ordered.

    A turn is when the prompt's last token would be computed if adapters took it in turns, a token
    each (Demers, Keshav and Shenker, "Analysis and Simulation of a Fair Queueing Algorithm", 1989).
    So a short prompt of an adapter that was idle goes before the backlog of a busy one, and prompts
    of one adapter keep their order. Its unit is prompt tokens of each busy adapter.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._last: dict[str | None, float] = {}

    def next(self, account: str | None, num_tokens: int) -> float:
        """The turn that an adapter's next prompt would get."""
        return max(self._now, self._last.get(account, 0.0)) + num_tokens

    def take(self, account: str | None, num_tokens: int) -> float:
        """Give it."""
        turn = self._last[account] = self.next(account, num_tokens)
        if len(self._last) > REMEMBERED:
            self._last = {each: last for each, last in self._last.items() if last > self._now}
        return turn

    def advance(self, num_tokens: int, num_adapters: int) -> None:
        """So many prompt tokens were computed while so many adapters wanted some."""
        self._now += num_tokens / max(1, num_adapters)


class Share:
    """The part of a step that one adapter may have while others are asked for too.

    fraction: of the batch's places and of a step's prompt tokens; 1 limits nothing. It may be
    changed between two steps.
    """

    def __init__(self, fraction: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.fraction = fraction
        self._clock = clock
        self._asked: OrderedDict[str | None, float] = OrderedDict()  # the latest last

    @property
    def limits(self) -> bool:
        """Whether it ever says less than the whole."""
        return self.fraction < 1

    def note(self, account: str | None) -> None:
        """Somebody asks for an adapter, or for the bare base."""
        self._asked[account] = self._clock()
        self._asked.move_to_end(account)
        while next(iter(self._asked.values())) < self._clock() - RECENT:
            self._asked.popitem(last=False)

    def of(self, account: str | None, whole: int, *, beside: bool) -> int:
        """How much of `whole` an adapter may have; `beside`: others are running or waiting."""
        if not self.limits or not (beside or self._others_were_asked(account)):
            return whole
        return max(1, math.ceil(self.fraction * whole))

    def _others_were_asked(self, account: str | None) -> bool:
        newest = next((at for each, at in reversed(self._asked.items()) if each != account), None)
        return newest is not None and newest >= self._clock() - RECENT
