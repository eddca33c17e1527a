"""Every metric of the server, in one place.

`hatstand_*` is ours. `vllm:*` are the gauges that the Gateway API Inference Extension's endpoint
picker reads to route by adapter; names, labels and meanings are its, not ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from server.engine.load_times import BOUNDS
from server.engine.request import AdapterRef, EngineStats, ResidentAdapter

TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)
REQUEST_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

RequestNames = Callable[[AdapterRef | ResidentAdapter], Iterable[str]]
"""Every `model` by which requests reach an adapter."""


class Metrics:
    """The counters and histograms that the HTTP layer writes, and the registry they live in."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "hatstand_requests",
            "HTTP requests answered, by route and status (499: the client left first).",
            ["route", "status"],
            registry=self.registry,
        )
        self.time_to_first_token = self._seconds(
            "hatstand_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            TTFT_BUCKETS,
        )
        self.time_per_output_token = self._seconds(
            "hatstand_time_per_output_token_seconds",
            "Mean time between a sequence's tokens after the first.",
            TOKEN_BUCKETS,
        )
        self.generation_seconds = self._seconds(
            "hatstand_generation_seconds",
            "From the request's arrival to its last token.",
            REQUEST_BUCKETS,
        )
        self.finished = Counter(
            "hatstand_sequences_finished",
            "Sequences that ended, by reason.",
            ["reason"],
            registry=self.registry,
        )

    def watch_engine(
        self, stats: Callable[[], EngineStats], *, base_name: str, request_names: RequestNames
    ) -> None:
        """Also export what the engine says of itself, read afresh at each scrape."""
        self.registry.register(EngineCollector(stats, base_name, request_names))

    def watch_registry(self, is_connected: Callable[[], bool]) -> None:
        """Also export whether the registry answers."""
        gauge = Gauge(
            "hatstand_registry_connected",
            "1 while the registry answers, 0 while the server goes on with what it knows.",
            registry=self.registry,
        )
        gauge.set_function(lambda: float(is_connected()))

    def render(self) -> bytes:
        """All of it in the classic Prometheus text format."""
        return generate_latest(self.registry)

    def _seconds(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, help_text, buckets=buckets, registry=self.registry)


class EngineCollector(Collector):
    """Turns one EngineStats snapshot into metrics."""

    def __init__(
        self, stats: Callable[[], EngineStats], base_name: str, request_names: RequestNames
    ) -> None:
        self._stats = stats
        self._base_name = base_name
        self._request_names = request_names

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are known without asking an engine that may not run yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        yield from _own_gauges(stats)
        yield from _own_counters(stats)
        yield _resident(stats)
        yield from self._picker_gauges(stats)
        yield from self._picker_adapters(stats)

    def _picker_gauges(self, stats: EngineStats) -> Iterator[Metric]:
        """Load, as the endpoint picker reads it."""
        for name, help_text, value in (
            ("num_requests_waiting", "Requests waiting.", stats.num_waiting),
            ("num_requests_running", "Requests running.", stats.num_running),
            ("kv_cache_usage_perc", "KV cache in use, 0 to 1.", stats.kv_usage),
        ):
            yield _gauge(f"vllm:{name}", help_text, value, {"model_name": self._base_name})
        yield _gauge(
            "vllm:cache_config_info",
            "Shape of the KV cache.",
            1,
            {"block_size": str(stats.block_size), "num_gpu_blocks": str(stats.num_blocks)},
        )

    def _picker_adapters(self, stats: EngineStats) -> Iterator[Metric]:
        """Which adapters sit where, under every name that a request may call them by.

        The picker counts names against `max_lora` to see whether there is room, and an adapter has
        several: each name beyond an adapter's first is added there too, so that what is left over
        is free slots.
        """
        in_slot = [adapter for adapter in stats.resident if adapter.level == "slot"]
        running = [name for adapter in in_slot for name in self._request_names(adapter)]
        loading = [name for adapter in stats.loading for name in self._request_names(adapter)]
        waiting = [name for name in loading if name not in running]
        aliases = len(running) + len(loading) - len(in_slot) - len(stats.loading)
        yield _gauge(
            "vllm:lora_requests_info",
            "Adapters loaded (running) and on their way (waiting); the value is Unix time.",
            time.time(),
            {
                "max_lora": str(stats.max_slots + aliases),
                "running_lora_adapters": ",".join(running),
                "waiting_lora_adapters": ",".join(waiting),
            },
        )
        loaded = GaugeMetricFamily(
            "vllm:lora_adapter_loaded",
            "1 for each name of each adapter held, by level.",
            labels=["adapter_name", "level", "pinned", "rank"],
        )
        for adapter in stats.resident:
            level = "gpu" if adapter.level == "slot" else "cpu"
            pinned = str(adapter.pinned).lower()
            for name in self._request_names(adapter):
                loaded.add_metric([name, level, pinned, str(adapter.rank)], 1)
        yield loaded
        yield _load_seconds(stats)
        # A slot's adapter keeps its host copy, so it counts at both levels.
        for name, help_text, value in (
            ("num_gpu_loaded_lora_adapters", "Adapters in slots.", len(in_slot)),
            ("num_cpu_loaded_lora_adapters", "Adapters in host memory.", len(stats.resident)),
            ("max_gpu_lora_adapters", "Slots.", stats.max_slots),
        ):
            yield _gauge(f"vllm:{name}", help_text, value)


def _own_gauges(stats: EngineStats) -> Iterator[Metric]:
    yield _gauge("hatstand_sequences_running", "Sequences in the batch.", stats.num_running)
    yield _gauge("hatstand_sequences_waiting", "Sequences in the queue.", stats.num_waiting)
    yield _gauge(
        "hatstand_queue_limit", "Sequences that may wait beyond a full batch.", stats.max_waiting
    )
    yield _gauge("hatstand_kv_blocks", "KV blocks in all.", stats.num_blocks)
    yield _gauge("hatstand_kv_blocks_free", "KV blocks free.", stats.num_free_blocks)
    yield _gauge("hatstand_kv_usage_ratio", "KV blocks in use, 0 to 1.", stats.kv_usage)
    yield _gauge("hatstand_slots", "Adapter slots.", stats.max_slots)
    yield _gauge("hatstand_adapters_loading", "Adapters on their way in.", len(stats.loading))


def _own_counters(stats: EngineStats) -> Iterator[Metric]:
    for name, help_text, value in (
        ("steps", "Forward passes.", stats.num_steps),
        ("prompt_tokens", "Prompt tokens taken in.", stats.num_prompt_tokens),
        ("generated_tokens", "Tokens generated.", stats.num_generated_tokens),
        ("prefix_hit_tokens", "Prompt tokens from the prefix cache.", stats.num_prefix_hits),
        (
            "preemptions",
            "Sequences put back for want of blocks, or for others' turn.",
            stats.num_preemptions,
        ),
        ("adapter_loads", "Adapters read into host memory.", stats.num_adapter_loads),
        ("adapter_evictions", "Adapters that made room.", stats.num_adapter_evictions),
    ):
        yield CounterMetricFamily(f"hatstand_{name}", help_text, value=value)


def _resident(stats: EngineStats) -> Metric:
    family = GaugeMetricFamily(
        "hatstand_adapter_resident",
        "1 for each adapter held; in-flight or not.",
        labels=["adapter", "digest", "level", "pinned"],
    )
    for adapter in stats.resident:
        pinned = str(adapter.pinned).lower()
        family.add_metric([adapter.label, adapter.digest, adapter.level, pinned], 1)
    return family


def _load_seconds(stats: EngineStats) -> Metric:
    family = HistogramMetricFamily(
        "vllm:lora_adapter_load_seconds",
        "How long adapters took into host memory (load) and from there into a slot (activate).",
        labels=["transition"],
    )
    for transition, times in (("load", stats.load_times), ("activate", stats.activate_times)):
        bounds = [*map(str, BOUNDS), "+Inf"]
        buckets = list(zip(bounds, times.cumulative, strict=True))
        family.add_metric([transition], buckets, times.total)
    return family


def _gauge(name: str, help_text: str, value: float, labels: dict[str, str] | None = None) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=list(labels or ()))
    family.add_metric(list((labels or {}).values()), value)
    return family
