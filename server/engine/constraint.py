"""What may come next: the door through which grammars reach the engine."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.int32]
"""[ceil(vocab / 32)]: bit `t % 32` of word `t // 32` is set where token t may come next."""


class Matcher(Protocol):
    """One sequence's place in its grammar. Only the engine's thread calls it."""

    def mask(self) -> Mask:
        """Which tokens may come next; waits until that is known. All zero after an `error`."""
        ...

    def take(self, token_id: int) -> None:
        """Go on by a token that the mask allows; the next mask is worked out beside the caller."""
        ...

    @property
    def is_over(self) -> bool:
        """Nothing may follow any more."""
        ...

    @property
    def error(self) -> str | None:
        """Why there is no mask: the grammar turned out to cost more than it may."""
        ...


class Constraint(Protocol):
    """A grammar that any number of sequences follow, each from its beginning."""

    def start(self) -> Matcher: ...
