"""What one step may compute of the adapter that is asked for most."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from server.engine.sequence import Sequence


@dataclass(frozen=True)
class Bound:
    """How far the busiest account goes in one step while others are asked for; at first: as it can.

    own: how many of its sequences, in the order of their admission, are as free as anybody's; what
    follows is about its further ones. extra: how many of them may decode. has_pass: whether their
    prompts are computed as far as they go, or only as far as a step is hardly lengthened by it.
    tokens: how much of a step the prompts of any account may take, further ones aside; more if
    another's want more.
    """

    account: str | None = None
    own: int = sys.maxsize
    extra: int = 0
    has_pass: bool = True
    tokens: int = sys.maxsize

    def admits(self, account: str | None, num_running: int) -> bool:
        """Whether one more sequence may run beside so many of its account."""
        return account != self.account or num_running < self.own + max(1, self.extra)

    def further(self, running: Iterable[Sequence]) -> list[Sequence]:
        """Who runs beyond the busiest account's own ones."""
        if self.own == sys.maxsize:
            return []
        return [each for each in running if each.account == self.account][self.own :]

    def resting(self, running: Iterable[Sequence]) -> set[Sequence]:
        """Who does not decode."""
        return set(self.further(running)[self.extra :])

    def free(self, prompts: list[Sequence], running: Iterable[Sequence]) -> list[Sequence]:
        """Those of the prompts that are nobody's further ones."""
        further = set(self.further(running))
        return [prompt for prompt in prompts if prompt not in further] if further else prompts

    def tokens_of_one(self, prompts: Iterable[Sequence]) -> int:
        """How many tokens of these prompts one account may have: as many as another wants."""
        if self.tokens == sys.maxsize:
            return self.tokens
        wanted: Counter[str | None] = Counter()
        for prompt in prompts:
            wanted[prompt.account] += prompt.num_uncomputed
        return max(self.tokens, sorted([0, 0, *wanted.values()])[-2])
