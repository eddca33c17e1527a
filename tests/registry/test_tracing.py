"""When requests are traced, and what is said where they cannot be."""

from __future__ import annotations

import logging
import sys

import pytest

from registry.tracing import NO_SPAN, current_span, entered, open_tracing
from registry.tracing.otel import OtelTracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nobody_is_traced_who_did_not_ask(environ: dict[str, str]) -> None:
    assert open_tracing("test", environ) is None


def test_an_endpoint_is_asking() -> None:
    tracing = open_tracing("test", ENDPOINT)
    assert isinstance(tracing, OtelTracing)
    tracing.close()


@pytest.mark.parametrize(
    "more", [{"OTEL_TRACES_EXPORTER": "zipkin"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}]
)
def test_what_cannot_be_had_is_a_warning(
    more: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert open_tracing("test", {**ENDPOINT, **more}) is None
    assert next(iter(more)) in caplog.text


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "registry.tracing.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with caplog.at_level(logging.WARNING):
        assert open_tracing("test", ENDPOINT) is None
    assert "hatstand[otel]" in caplog.text


@pytest.mark.parametrize(
    ("sampler", "traceparent", "is_recorded"),
    [
        ({}, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", False),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "", False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.0"}, "", True),
    ],
)
def test_the_sdk_samples_by_its_own_variables(
    sampler: dict[str, str], traceparent: str, is_recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sampler.items():
        monkeypatch.setenv(name, value)
    tracing = open_tracing("test", ENDPOINT)
    assert tracing is not None
    span = tracing.begin("GET", {"traceparent": traceparent}, {})
    assert span.is_recorded == is_recorded
    flags = span.begin("part").headers()["traceparent"].rpartition("-")[2]
    assert bool(int(flags, 16) & 1) == is_recorded
    tracing.close()  # nothing has ended, so nothing is sent


def test_without_a_trace_nothing_is_said() -> None:
    assert current_span() is NO_SPAN
    part = NO_SPAN.begin("part")
    assert (part.trace_id, part.is_recorded, part.headers()) == ("", False, {})
    with entered(part):
        assert current_span() is part
