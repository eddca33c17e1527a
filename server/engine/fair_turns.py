"""Whose prompt is computed first.

Adapters are told apart by their account (`AdapterRef.account`), under which compositions count as
one of their parts.
"""

from __future__ import annotations

REMEMBERED = 256  # adapters, before those whose turns have passed are forgotten


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
