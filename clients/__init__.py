"""Python client and the `hatstand` command line."""

from .catalog import Adapter, AdapterPage, AliasMove, Version
from .client import AsyncHatstand, Hatstand
from .embeddings import EmbeddingOptions, Embeddings
from .errors import HatstandError
from .messages import Answer, Event, Model, ToolCall, Usage
from .options import (
    ChatOptions,
    CompletionOptions,
    SamplingOptions,
    function_tool,
    json_schema,
    named_tool,
)

__all__ = [
    "Adapter",
    "AdapterPage",
    "AliasMove",
    "Answer",
    "AsyncHatstand",
    "ChatOptions",
    "CompletionOptions",
    "EmbeddingOptions",
    "Embeddings",
    "Event",
    "Hatstand",
    "HatstandError",
    "Model",
    "SamplingOptions",
    "ToolCall",
    "Usage",
    "Version",
    "function_tool",
    "json_schema",
    "named_tool",
]
