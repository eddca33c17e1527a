"""What a request lets the model call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from server.tools.formats import ToolFormat


@dataclass(frozen=True)
class Function:
    """One function; `param` is the place of its schema in the request.

    strict: whether arguments follow the schema to the letter; else as far as a grammar can.
    """

    name: str
    param: str
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    strict: bool = False


@dataclass(frozen=True)
class Toolbox:
    """Functions that may be called (`auto`), or of which one has to be (`required`)."""

    functions: tuple[Function, ...]
    mode: Literal["auto", "required"]
    parallel: bool
    format: ToolFormat

    @property
    def is_enforced(self) -> bool:
        """Whether a grammar holds the model to the functions as they are declared."""
        return self.mode == "required" or any(function.strict for function in self.functions)
