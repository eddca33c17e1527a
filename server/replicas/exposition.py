"""Every replica's metrics under one address, each series with its replica's number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from .fleet import Fleet


class FleetMetrics:
    """What the replicas say, and what only their parent knows."""

    def __init__(self, fleet: Fleet) -> None:
        self._registry = CollectorRegistry()
        self.handed = Counter(
            "hatstand_replica_requests",
            "Requests by replica, and where their adapter was: slot (or none needed), host, cold.",
            ["replica", "adapter"],
            registry=self._registry,
        )
        self._registry.register(_FleetCollector(fleet))

    def render(self) -> bytes:
        """In the classic text format."""
        return generate_latest(self._registry)


class _FleetCollector(Collector):
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are known without asking replicas."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "hatstand_replica_restarts",
            "Replicas that ended unasked and were started again.",
            value=self._fleet.num_restarts,
        )
        ready = GaugeMetricFamily(
            "hatstand_replica_ready", "1 while a replica is ready.", labels=["replica"]
        )
        for replica in self._fleet.replicas:
            ready.add_metric([str(replica.number)], float(replica.is_ready))
        yield ready
        yield from self._merged()

    def _merged(self) -> Iterator[Metric]:
        """Families in the order in which the first replica has them."""
        families: dict[str, Metric] = {}
        for replica in self._fleet.replicas:
            for family in text_string_to_metric_families(replica.metrics):
                into = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "replica": str(replica.number)}
                    into.add_sample(sample.name, labels, sample.value)
        yield from families.values()
