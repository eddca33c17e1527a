"""Sequences that wait to be admitted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping

from server.engine.present import Present
from server.engine.sequence import Sequence


class WaitingLines:
    """A line for each adapter, and one for the bare base; each in order of arrival.

    Who comes next is the first of the line whose account has the fewest sequences running, and of
    several such the oldest: an adapter that is asked a hundred times as often as others has more
    waiting for it, not more of the batch than they want. Where there is no place to wait either,
    the account with the most waiting gives one up. So a step looks at as many sequences as there
    are adapters waited for, however many wait.
    """

    def __init__(self) -> None:
        self._lines: dict[str | None, OrderedDict[Sequence, None]] = {}
        self.accounts = Present[str | None]()  # how many of each wait

    def add(self, sequence: Sequence) -> None:
        """To the end of its line."""
        self._lines.setdefault(sequence.adapter_digest, OrderedDict())[sequence] = None
        self.accounts[sequence.account] += 1

    def put_back(self, sequence: Sequence) -> None:
        """One that was admitted before all who wait in its line, so to the line's beginning."""
        self.add(sequence)
        self._lines[sequence.adapter_digest].move_to_end(sequence, last=False)

    def remove(self, sequence: Sequence) -> None:
        line = self._lines[sequence.adapter_digest]
        del line[sequence]
        if not line:
            del self._lines[sequence.adapter_digest]
        self.accounts.take(sequence.account)

    def first(self, digest: str | None) -> Sequence | None:
        """Who has waited longest for an adapter, or for the bare base."""
        return next(iter(self._lines.get(digest, ())), None)

    def heads(self, running: Mapping[str | None, int]) -> list[Sequence]:
        """The first of each line, in their turn. `running`: sequences that run, by account."""
        firsts = (next(iter(line)) for line in self._lines.values())
        return sorted(firsts, key=lambda sequence: turn(sequence, running))

    def newest_of_most(self, *, than: str | None) -> Sequence | None:
        """Who has to go where one more comes for the account `than` and there is no place.

        The last of the account with the most waiting, if that has two more than the newcomer's.
        Nobody who has begun; and who was promised the place goes only for an account that has
        nobody waiting.
        """
        most = max(self.accounts, key=self.accounts.__getitem__, default=None)
        own = self.accounts[than]
        if self.accounts[most] < own + 2:
            return None
        lasts = (next(reversed(line)) for line in self._lines.values())
        newest = max((last for last in lasts if last.account == most), key=_arrival)
        return None if newest.was_admitted or (newest.is_promised and own) else newest

    def line(self, digest: str | None) -> list[Sequence]:
        """Everybody who waits for an adapter."""
        return list(self._lines.get(digest, ()))

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._lines.get(sequence.adapter_digest, ())

    def __iter__(self) -> Iterator[Sequence]:
        """Everybody, in order of arrival."""
        return iter(sorted((s for line in self._lines.values() for s in line), key=_arrival))

    def __len__(self) -> int:
        return self.accounts.total()

    def __bool__(self) -> bool:  # asked several times a step, of many accounts
        return bool(self._lines)


def turn(sequence: Sequence, running: Mapping[str | None, int]) -> tuple[int, float]:
    """What orders those who wait: the fewest running of its account, then the oldest."""
    return running.get(sequence.account, 0), sequence.arrival


def _arrival(sequence: Sequence) -> float:
    return sequence.arrival
