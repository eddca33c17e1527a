"""How long work on a base says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int | None], None]
"""Called with (stage, done, total); total None while it is unknown."""


def silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
