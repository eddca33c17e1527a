"""`tools` and `tool_choice` as a chat's body has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from . import limits

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class FunctionBody(BaseModel):
    """One function: its name, what it is for, and its arguments' JSON Schema."""

    model_config = _STRICT

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(BaseModel):
    """One tool; functions are the only kind here."""

    model_config = _STRICT

    type: Literal["function"]
    function: FunctionBody


class NamedFunction(BaseModel):
    model_config = _STRICT

    name: FunctionName


class NamedTool(BaseModel):
    """The one function that has to be called."""

    model_config = _STRICT

    type: Literal["function"]
    function: NamedFunction


class Allowed(BaseModel):
    model_config = _STRICT

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=limits.MAX_TOOLS)]


class AllowedTools(BaseModel):
    """A part of the tools, the rest of which stays in the prompt."""

    model_config = _STRICT

    type: Literal["allowed_tools"]
    allowed_tools: Allowed


def _kind(value: Any) -> str:
    if not isinstance(value, dict):
        return "<word>"
    return "<allowed>" if value.get("type") == "allowed_tools" else "<named>"


Tools = Annotated[list[ToolBody], Field(max_length=limits.MAX_TOOLS)]
ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")]
    | Annotated[NamedTool, Tag("<named>")]
    | Annotated[AllowedTools, Tag("<allowed>")],
    Discriminator(_kind),
]
