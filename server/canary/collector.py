"""Canaries among the server's metrics: at most a hundred of them, while they run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.canary.outcomes import Outcomes

from .arms import Arms, Trial
from .tally import Tally

_MOST = 100
_LABELS = ("alias", "version", "arm")


class CanaryCollector(Collector):
    """Shares, and how the requests of the running step went, read afresh at each scrape."""

    def __init__(self, arms: Arms, tally: Tally) -> None:
        self._arms = arms
        self._tally = tally

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are known without a canary."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Gauges, since each step begins at zero."""
        weight = GaugeMetricFamily(
            "hatstand_canary_weight",
            "A canary's share of its alias's requests, in per cent.",
            labels=("alias", "version"),
        )
        requests = _family("requests", "Answers in the canary's step, by side.")
        errors = _family("errors", "Those of them that failed.")
        ttft = _family("ttft_p95_seconds", "95th percentile of the time to their first tokens.")
        for trial in self._arms.trials[:_MOST]:
            target = trial.split.target.ref
            weight.add_metric([trial.ref, target], trial.split.weight)
            for arm, version, outcomes in self._sides(trial):
                labels = [trial.ref, version, arm]
                requests.add_metric(labels, outcomes.requests)
                errors.add_metric(labels, outcomes.errors)
                ttft.add_metric(labels, outcomes.ttft.quantile(0.95) or 0.0)
        yield from (weight, requests, errors, ttft)

    def _sides(self, trial: Trial) -> Iterator[tuple[str, str, Outcomes]]:
        sides = self._tally.of(trial)
        yield "stable", trial.stable.ref, sides.stable
        yield "canary", trial.split.target.ref, sides.target


def _family(name: str, help_text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"hatstand_canary_{name}", help_text, labels=_LABELS)
