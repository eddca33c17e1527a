"""One request followed through every process: spans, where they are written, and who carries on."""

from .middleware import Traced
from .opening import open_tracing
from .span import NO_SPAN, Attributes, Span, Tracing, current_span, ended, entered, within

__all__ = [
    "NO_SPAN",
    "Attributes",
    "Span",
    "Traced",
    "Tracing",
    "current_span",
    "ended",
    "entered",
    "open_tracing",
    "within",
]
