"""A chosen token."""

from __future__ import annotations

from dataclasses import dataclass

Top = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Sampled:
    """A token; `logprob` and `top` (ids and theirs) are set if the sequence asked for them."""

    token_id: int
    logprob: float | None = None
    top: Top = ()
