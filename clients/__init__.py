"""Python client and the `hatstand` command line."""

from .catalog import Adapter, AdapterPage, AliasMove, Version
from .client import AsyncHatstand, Hatstand
from .embeddings import EmbeddingOptions, Embeddings
from .errors import HatstandError
from .messages import Answer, Event, Model, SamplingOptions, Usage

__all__ = [
    "Adapter",
    "AdapterPage",
    "AliasMove",
    "Answer",
    "AsyncHatstand",
    "EmbeddingOptions",
    "Embeddings",
    "Event",
    "Hatstand",
    "HatstandError",
    "Model",
    "SamplingOptions",
    "Usage",
    "Version",
]
