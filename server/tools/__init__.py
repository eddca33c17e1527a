"""Functions that a model may call: how calls are written, read back and held to their schemas."""

from .formats import ToolFormat, find_format
from .grammar import tool_shape
from .reader import CallDelta, CallReader
from .toolbox import Function, Toolbox

__all__ = [
    "CallDelta",
    "CallReader",
    "Function",
    "ToolFormat",
    "Toolbox",
    "find_format",
    "tool_shape",
]
