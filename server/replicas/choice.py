"""Which replica answers a request: one that holds its adapter, unless that one is far busier."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

from .holding import Level

UNEVEN = 1.25  # times the mean number of open requests that an adapter's replica may have …
SLACK = 4  # … and so many more; beyond it, the adapter is loaded elsewhere too


class Candidate(Protocol):
    """A replica, as far as the choice looks at it."""

    @property
    def number(self) -> int: ...

    @property
    def num_open(self) -> int:
        """Requests that it has been given and not answered to the end."""
        ...

    @property
    def num_free(self) -> int:
        """Slots into which nothing was sent yet."""
        ...

    def level_of(self, model: str) -> Level: ...


C = TypeVar("C", bound=Candidate)


def choose(model: str, candidates: Sequence[C]) -> C:
    """The best of the candidates, of which there must be one.

    Nearest first; where nobody holds the adapter, the one with most free slots, and where slots are
    full, always the same one by the adapter's name (rendezvous hashing), so that each replica swaps
    among adapters of its own. The bound on open requests is that of consistent hashing with bounded
    loads (Mirrokni, Thorup, Zadimoghaddam 2016).
    """
    bound = UNEVEN * sum(each.num_open for each in candidates) / len(candidates) + SLACK
    for candidate in sorted(candidates, key=lambda each: _distance(model, each)):
        if candidate.num_open < bound:
            return candidate
    raise AssertionError("the least busy is never over a bound above the mean")


def _distance(model: str, candidate: Candidate) -> tuple[int, int, int, bytes]:
    level = candidate.level_of(model)
    if level is Level.COLD:
        return level, -candidate.num_free, 0, _rank(model, candidate.number)
    return level, 0, candidate.num_open, _rank(model, candidate.number)


def _rank(model: str, number: int) -> bytes:
    """The same for every version of an adapter."""
    name = model.partition("@")[0]
    return hashlib.blake2b(f"{name}/{number}".encode(), digest_size=8).digest()
