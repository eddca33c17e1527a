"""How the answers of one version went: counts that several servers can add up."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from registry.errors import InvalidRequest

BOUNDS = tuple(0.001 * 1.25**power for power in range(54))
"""Seconds, 1 ms to 137 s; each bucket holds what took no longer, the last one everything beyond."""

_MOST = 10**12  # of anything that is counted


@dataclass(frozen=True)
class Latencies:
    """A histogram over BOUNDS."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)

    def plus(self, seconds: float) -> Latencies:
        """The same with one more."""
        counts = list(self.counts)
        counts[bisect_left(BOUNDS, seconds)] += 1
        return Latencies(tuple(counts))

    def __add__(self, other: Latencies) -> Latencies:
        return Latencies(tuple(map(sum, zip(self.counts, other.counts, strict=True))))

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Seconds that this share of them did not exceed; None without any.

        Linear within a bucket, as Prometheus' histogram_quantile, so wrong by a quarter at most.
        """
        if not self.total:
            return None
        rank = share * self.total
        reached = list(accumulate(self.counts))
        bucket = bisect_left(reached, rank)
        if bucket >= len(BOUNDS):
            return BOUNDS[-1]
        low = BOUNDS[bucket - 1] if bucket else 0.0
        into = (rank - (reached[bucket] - self.counts[bucket])) / self.counts[bucket]
        return low + (BOUNDS[bucket] - low) * into


@dataclass(frozen=True)
class Outcomes:
    """Requests that one version answered, how many of them failed, and how long they took.

    `ttft` is the time to the first token, `inter_token` each answer's mean time between tokens.
    """

    requests: int = 0
    errors: int = 0
    ttft: Latencies = field(default_factory=Latencies)
    inter_token: Latencies = field(default_factory=Latencies)

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes(
            self.requests + other.requests,
            self.errors + other.errors,
            self.ttft + other.ttft,
            self.inter_token + other.inter_token,
        )

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "ttft": list(self.ttft.counts),
            "inter_token": list(self.inter_token.counts),
        }

    @classmethod
    def read(cls, values: Mapping[str, Any], *, source: str) -> Outcomes:
        """From JSON; raises `InvalidRequest` naming `source`."""
        try:
            requests, errors = values["requests"], values["errors"]
            counts = [tuple(values["ttft"]), tuple(values["inter_token"])]
        except (KeyError, TypeError):
            raise InvalidRequest(
                f"{source} needs requests, errors, ttft and inter_token", param=source
            ) from None
        flat = [requests, errors, *counts[0], *counts[1]]
        if any(len(each) != len(BOUNDS) + 1 for each in counts) or not all(map(_is_count, flat)):
            raise InvalidRequest(
                f"{source} must be counts, with {len(BOUNDS) + 1} buckets each", param=source
            )
        if errors > requests:
            raise InvalidRequest(f"{source} has more errors than requests", param=source)
        return cls(requests, errors, Latencies(counts[0]), Latencies(counts[1]))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
