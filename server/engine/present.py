"""How many there are of each kind, for kinds that come and go."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

K = TypeVar("K")


class Present(Counter[K]):
    """A counter whose keys are those of which there is one at least."""

    def take(self, key: K) -> None:
        """One fewer."""
        self[key] -= 1
        if not self[key]:
            del self[key]
