"""Spans as OpenTelemetry's, handed over by OTLP over HTTP (extra `otel`)."""

from __future__ import annotations

import time
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .span import Attributes, Kind, Span, Tracing

_KINDS = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
# Not what OTEL_PROPAGATORS says: a stranger's baggage is no business of ours.
_PROPAGATOR = TraceContextTextMapPropagator()


def open_otel(service: str, exporter: str, environ: Mapping[str, str]) -> Tracing:
    """Tracing as the SDK's variables say: endpoint, headers, sampler, batches, resource.

    Raises ValueError for an exporter or a protocol that is none of ours.
    """
    exporters: dict[str, type[SpanExporter]] = {
        "otlp": OTLPSpanExporter,
        "console": ConsoleSpanExporter,
    }
    if exporter not in exporters:
        raise ValueError(f"OTEL_TRACES_EXPORTER={exporter}: use otlp, console or none")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name, "http/protobuf") != "http/protobuf":
            raise ValueError(f"{name}={environ[name]}: only http/protobuf is spoken here")
    return OtelTracing(service, BatchSpanProcessor(exporters[exporter]()))


class OtelTracing:
    """One process's tracer. `processor` takes ended spans."""

    def __init__(self, service: str, processor: SpanProcessor) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before the name given here.
        named = {} if _is_named(Resource.create()) else {SERVICE_NAME: service}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("hatstand")

    def begin(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> Span:
        parent = _PROPAGATOR.extract(headers)
        epoch = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            name,
            parent,
            SpanKind.SERVER,
            attributes,
            start_time=epoch + time.monotonic_ns(),
        )
        return OtelSpan(span, self._tracer, epoch)

    def close(self) -> None:
        self._provider.shutdown()


class OtelSpan:
    """`epoch`: Unix time of the monotonic clock's zero, in nanoseconds.

    A request's parts share one, so that their order survives an adjustment of the clock.
    """

    def __init__(self, span: trace.Span, tracer: trace.Tracer, epoch: int) -> None:
        self._span = span
        self._tracer = tracer
        self._epoch = epoch

    @property
    def trace_id(self) -> str:
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    @property
    def is_recorded(self) -> bool:
        return self._span.is_recording()

    def begin(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        at: float | None = None,
        attributes: Attributes | None = None,
    ) -> Span:
        if not self.is_recorded:  # the sampler left it out: its parts are left out with it
            return self
        span = self._tracer.start_span(
            name,
            trace.set_span_in_context(self._span),
            _KINDS[kind],
            attributes,
            start_time=self._nanoseconds(at),
        )
        return OtelSpan(span, self._tracer, self._epoch)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def add(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def event(self, name: str, at: float | None = None) -> None:
        self._span.add_event(name, timestamp=self._nanoseconds(at))

    def fail(self, kind: str, message: str = "") -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, message or None))

    def end(self, at: float | None = None) -> None:
        if self._span.is_recording():  # the SDK warns of a second end
            self._span.end(self._nanoseconds(at))

    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span))
        return carrier

    def _nanoseconds(self, at: float | None) -> int:
        return self._epoch + (time.monotonic_ns() if at is None else int(at * 1e9))


def _is_named(resource: Resource) -> bool:
    return not str(resource.attributes[SERVICE_NAME]).startswith("unknown_service")
