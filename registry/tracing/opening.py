"""Whether requests are traced: OpenTelemetry's own environment variables say so."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from .span import Tracing

logger = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTER = "OTEL_TRACES_EXPORTER"


def open_tracing(service: str, environ: Mapping[str, str] | None = None) -> Tracing | None:
    """What takes the spans of `service`; None unless the environment asks for it.

    Asked is by an OTLP endpoint, or by OTEL_TRACES_EXPORTER. What asks and cannot be had (the extra
    is not installed, another protocol) is a warning: no server stays down for want of its traces.
    """
    environ = os.environ if environ is None else environ
    exporter = environ.get(_EXPORTER, "")
    is_asked = any(environ.get(name) for name in _ENDPOINTS) or exporter not in ("", "none")
    is_off = exporter == "none" or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not is_asked or is_off:
        return None
    try:
        from .otel import open_otel
    except ModuleNotFoundError:
        logger.warning("traces are asked for, but need OpenTelemetry: pip install 'hatstand[otel]'")
        return None
    try:
        return open_otel(service, exporter or "otlp", environ)
    except ValueError as refusal:
        logger.warning("no traces: %s", refusal)
        return None
