"""`GET /metrics`, read as Prometheus reads it."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from registry import Registry
from registry.api.metrics import Metrics
from tests.registry.api.conftest import upload

EVERY_DATABASE = True
PREFIX = "hatstand_registry_"


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (each.name.removeprefix(PREFIX), tuple(sorted(each.labels.items()))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


@pytest.mark.usefixtures("three")
def test_requests_bytes_and_what_is_held_are_counted(
    http: httpx.Client, registry: Registry
) -> None:
    before = samples(http.get("/metrics").text)
    upload(http, b"x" * 5000)
    http.get("/adapters/sql")
    http.get("/adapters/nobody")
    http.get("/no/such/path")
    registry.withdraw("sql@2")
    after = samples(http.get("/metrics").text)
    shown = (("method", "GET"), ("route", "/adapters/{name}"))
    assert after["requests_total", (*shown, ("status", "200"))] == 1
    assert after["requests_total", (*shown, ("status", "404"))] == 1
    assert not [key for key in after if "nobody" in str(key) or "such" in str(key)]
    assert after["request_seconds_count", (("route", "/adapters/{name}"),)] == 2
    assert after["request_seconds_sum", (("route", "/adapters/{name}"),)] > 0
    assert after["received_bytes_total", ()] - before["received_bytes_total", ()] == 5000
    assert after["sent_bytes_total", ()] > before["sent_bytes_total", ()]
    versions = registry.versions("sql")
    assert (before["versions", ()], after["versions", ()]) == (3, 2)
    assert after["version_bytes", ()] == sum(version.size for version in versions)
    assert (after["adapters", ()], after["leases", ()]) == (1, 0)
    assert after["newest_event", ()] == registry.newest_event()


def test_a_histogram_sums_up_and_labels_are_escaped() -> None:
    metrics = Metrics()
    for seconds in (0.004, 0.2, 99.0):
        metrics.count_request('/"a"\\', "GET", 200, seconds)
    found = samples(metrics.render({}))
    route = ("route", '/"a"\\')
    assert found["request_seconds_bucket", (("le", "0.005"), route)] == 1
    assert found["request_seconds_bucket", (("le", "0.25"), route)] == 2
    assert found["request_seconds_bucket", (("le", "+Inf"), route)] == 3
    assert found["request_seconds_sum", (route,)] == pytest.approx(99.204)
