"""What came of one delivery."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """A status, or why there is none; `error` is empty for what arrived."""

    status: int | None
    error: str
    seconds: float

    @property
    def is_delivered(self) -> bool:
        """Any 2xx; a redirection is none, and is not followed."""
        return self.status is not None and 200 <= self.status < 300
