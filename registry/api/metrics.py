"""`GET /metrics` of the registry's server: every metric, in Prometheus' text format.

Written out here rather than with prometheus-client, which the base install does without: counters,
gauges and one histogram are all there is. Format:
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Iterator, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]


class Metrics:
    """What one server has done since its start; written from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[Labels] = Counter()
        self._buckets: dict[str, list[int]] = {}  # by route, one more than there are bounds
        self._seconds: dict[str, float] = {}
        self._received: int = 0
        self._sent: int = 0

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is its pattern, so that names do not multiply."""
        labels = (("route", route), ("method", method), ("status", str(status)))
        with self._lock:
            self._requests[labels] += 1
            buckets = self._buckets.setdefault(route, [0] * (len(_BOUNDS) + 1))
            buckets[bisect.bisect_left(_BOUNDS, seconds)] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def count_bytes(self, *, received: int = 0, sent: int = 0) -> None:
        """Bytes of bodies went by."""
        with self._lock:
            self._received += received
            self._sent += sent

    def render(self, gauges: Mapping[str, float]) -> str:
        """Everything as text, with what `gauges` (names of `GAUGES`) are now."""
        with self._lock:
            requests = [("", labels, float(n)) for labels, n in self._requests.items()]
            latencies = list(self._latencies())
            received, sent = self._received, self._sent
        blocks = [
            _block("requests_total", "counter", "Requests answered.", requests),
            _block("request_seconds", "histogram", "Until an answer's end.", latencies),
            _block("received_bytes_total", "counter", "Of requests' bodies.", _one(received)),
            _block("sent_bytes_total", "counter", "Of answers' bodies.", _one(sent)),
        ]
        blocks += [
            _block(name, "gauge", GAUGES[name], _one(value)) for name, value in gauges.items()
        ]
        return "".join(blocks)

    def _latencies(self) -> Iterator[Sample]:
        for route, buckets in self._buckets.items():
            so_far = 0
            for bound, count in zip((*_BOUNDS, "+Inf"), buckets, strict=True):
                so_far += count
                labels = (("route", route), ("le", str(bound)))
                yield "_bucket", labels, so_far
            yield "_sum", (("route", route),), self._seconds[route]
            yield "_count", (("route", route),), so_far


GAUGES: Mapping[str, str] = {
    "adapters": "Adapters that were ever pushed.",
    "versions": "Versions that were not withdrawn.",
    "version_bytes": "Of these versions' files, each version counted whole.",
    "newest_event": "The last event's number: a follower that has a lower one is behind.",
    "leases": "Leases that have not expired.",
}


def _one(value: float) -> list[Sample]:
    return [("", (), float(value))]


def _block(name: str, kind: str, text: str, samples: list[Sample]) -> str:
    full = f"hatstand_registry_{name}"
    lines = [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
    lines += [f"{full}{suffix}{_braces(labels)} {value:.17g}" for suffix, labels, value in samples]
    return "\n".join(lines) + "\n"


def _braces(labels: Labels) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inside}}}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
