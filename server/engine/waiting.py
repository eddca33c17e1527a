"""Sequences that wait to be admitted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping

from server.engine.sequence import Sequence


class WaitingLines:
    """A line for each adapter, and one for the bare base; each in order of arrival.

    Who comes next is the first of the line whose adapter has the fewest sequences running, and of
    several such the oldest: an adapter that is asked a hundred times as often as others has more
    waiting for it, not more of the batch than they want. Where there is no place to wait either,
    the longest line gives one up. So a step looks at as many sequences as there are adapters waited
    for, however many wait.
    """

    def __init__(self) -> None:
        self._lines: dict[str | None, OrderedDict[Sequence, None]] = {}
        self._num_waiting = 0

    def add(self, sequence: Sequence) -> None:
        """To the end of its line."""
        self._lines.setdefault(sequence.adapter_digest, OrderedDict())[sequence] = None
        self._num_waiting += 1

    def put_back(self, sequence: Sequence) -> None:
        """One that was admitted before all who wait in its line, so to the line's beginning."""
        self.add(sequence)
        self._lines[sequence.adapter_digest].move_to_end(sequence, last=False)

    def remove(self, sequence: Sequence) -> None:
        line = self._lines[sequence.adapter_digest]
        del line[sequence]
        self._num_waiting -= 1
        if not line:
            del self._lines[sequence.adapter_digest]

    def first(self, digest: str | None) -> Sequence | None:
        """Who has waited longest for an adapter, or for the bare base."""
        return next(iter(self._lines.get(digest, ())), None)

    def heads(self, running: Mapping[str | None, int]) -> list[Sequence]:
        """The first of each line, in their turn. `running`: sequences that run, by adapter."""
        firsts = (next(iter(line)) for line in self._lines.values())
        return sorted(firsts, key=lambda sequence: turn(sequence, running))

    def newest_of_longest(self, *, than: str | None) -> Sequence | None:
        """Who has to go where one more comes for the adapter `than` and there is no place.

        The last of the longest line, if that has two more than the newcomer's and has not begun.
        """
        longest = max(self._lines.values(), key=len, default=None)
        if longest is None or len(longest) < len(self._lines.get(than, ())) + 2:
            return None
        newest = next(reversed(longest))
        return None if newest.was_admitted else newest

    def line(self, digest: str | None) -> list[Sequence]:
        """Everybody who waits for an adapter."""
        return list(self._lines.get(digest, ()))

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._lines.get(sequence.adapter_digest, ())

    def __iter__(self) -> Iterator[Sequence]:
        """Everybody, in order of arrival."""
        return iter(sorted((s for line in self._lines.values() for s in line), key=_arrival))

    def __len__(self) -> int:
        return self._num_waiting


def turn(sequence: Sequence, running: Mapping[str | None, int]) -> tuple[int, float]:
    """What orders those who wait: the fewest running of its adapter, then the oldest."""
    return running.get(sequence.adapter_digest, 0), sequence.arrival


def _arrival(sequence: Sequence) -> float:
    return sequence.arrival
