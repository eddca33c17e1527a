"""Lists that are too long for one answer: where to begin, how much, and what to look for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

from .errors import InvalidRequest

T = TypeVar("T")

LARGEST_PAGE = 1000
_CONDITION = re.compile(r"([\w./ -]{1,63}?)\s*(>=|<=|>|<|=)\s*(-?[\d.]+(?:[eE][+-]?\d+)?)")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items, and the name after which the next page begins (None: this is the last)."""

    items: list[T]
    next: str | None = None


@dataclass(frozen=True)
class MetricCondition:
    """`exact_match>=0.9`, taken apart."""

    name: str
    relation: str
    value: float

    @classmethod
    def parse(cls, text: str) -> MetricCondition:
        """Read a condition; raises `InvalidRequest`."""
        match = _CONDITION.fullmatch(text.strip())
        try:
            if match:
                return cls(match[1], match[2], float(match[3]))
        except ValueError:
            pass
        raise InvalidRequest(
            f"{text[:80]!r} is no condition on a metric: write one like exact_match>=0.9",
            param="metric",
        )


@dataclass(frozen=True)
class Search:
    """Which adapters to list: those with a standing version that meets every condition.

    `base` is a base's name or the beginning of its fingerprint, `text` a part of the adapter's
    name.
    """

    text: str = ""
    base: str = ""
    tags: tuple[str, ...] = ()
    metrics: tuple[MetricCondition, ...] = ()
