"""Python client and the `hatstand` command line."""

from .client import AsyncHatstand, Hatstand
from .errors import HatstandError
from .messages import Answer, Event, Model, SamplingOptions, Usage

__all__ = [
    "Answer",
    "AsyncHatstand",
    "Event",
    "Hatstand",
    "HatstandError",
    "Model",
    "SamplingOptions",
    "Usage",
]
