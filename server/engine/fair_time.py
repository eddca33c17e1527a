"""How much of the time one adapter may take from others that are asked for.

Adapters are told apart by their account (`AdapterRef.account`), under which compositions count as
one of their parts.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from server.engine.bound import Bound
from server.engine.step_costs import StepCosts

RECENT = 1.0  # seconds for which an adapter counts as asked for once nobody of it is there
PASSES = 0.15  # of an adapter's part of the time; see `FairTime`

Account = str | None
Counts = Mapping[Account, int]


class FairTime:
    """Keeps the busiest adapter from lengthening the others' steps while others are asked for.

    An account may always have as many sequences as the next busiest one; so where adapters are
    asked for alike, or two of them by crowds, nobody is bound. Those beyond, its further ones,
    lengthen each step by at most `fraction`: one half of it is for tokens that they decode, one for
    tokens of their prompts. A pass over their prompts that is too large for that comes seldom:
    PASSES of `fraction` is the part of the time of those whom it may delay. With an eighth that is
    one in fifty, so that the 95th percentile of what others wait hardly knows of it, however long
    it is; it may therefore take all that a step has, and what is bound always gets on.

    fraction: 1 binds nobody; it may be changed between two steps. chunk: prompt tokens of a step.
    """

    def __init__(
        self,
        fraction: float,
        costs: StepCosts,
        *,
        chunk: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fraction = fraction
        self._chunk = chunk
        self._costs = costs
        self._clock = clock
        self._asked: OrderedDict[Account, float] = OrderedDict()  # the latest last
        self._saved = 0.0  # rows that were due in steps before, less than one
        self._next_pass = 0.0  # when prompts beyond an account's own may be computed again

    def note(self, account: Account) -> None:
        """Somebody of an adapter, or of the bare base, comes or goes."""
        now = self._clock()
        self._asked[account] = now
        self._asked.move_to_end(account)
        while next(iter(self._asked.values())) < now - RECENT:
            self._asked.popitem(last=False)

    def bound(self, running: Counts, waiting: Counts) -> Bound:
        """For one step, from how many sequences of each account run and wait."""
        if self.fraction >= 1 or not (running or waiting):
            return Bound()
        present = dict(running)
        for account, count in waiting.items():
            present[account] = present.get(account, 0) + count
        busiest = max(present, key=present.__getitem__)
        most = present.pop(busiest)
        if not (present or self._others_were_asked(busiest)):
            return Bound()
        tokens = math.ceil(self.fraction * self._chunk)
        own = max(present.values(), default=1)
        if most <= own:
            return Bound(tokens=tokens)
        others = sum(running.values()) - running.get(busiest, 0)
        is_due = self._clock() >= self._next_pass
        return Bound(busiest, own, self._rows_beside(others + own), is_due, tokens)

    def tokens_beside(self, num_decoding: int, num_tokens: int) -> int:
        """Prompt tokens of further sequences by which such a step may be lengthened anyway."""
        costs, prompts = self._costs, self._costs.prompts
        if not prompts.each:
            return 0
        seconds = costs.of(num_decoding, num_tokens) * self.fraction / 2
        return int((seconds if num_tokens else seconds - prompts.fixed) / prompts.each)

    def charge(self, num_further: int, num_decoding: int, num_tokens: int) -> None:
        """Such a step computes so many prompt tokens of further sequences: when the next may."""
        if num_further <= self.tokens_beside(num_decoding, num_tokens):
            return
        costs = self._costs
        # Whoever comes while it runs waits for it, and so does whoever comes in the step before.
        seconds = costs.of(num_decoding, num_tokens + num_further) + costs.of(num_decoding, 0)
        self._next_pass = self._clock() + seconds / (PASSES * self.fraction)

    def _rows_beside(self, count: int) -> int:
        """How many more may decode beside so many; less than one adds up from step to step."""
        decode = self._costs.decode
        if not decode.each:
            return 0
        self._saved = self._saved % 1 + self.fraction / 2 * decode.at(count) / decode.each
        return int(self._saved)

    def _others_were_asked(self, account: Account) -> bool:
        newest = next((at for each, at in reversed(self._asked.items()) if each != account), None)
        return newest is not None and newest >= self._clock() - RECENT
