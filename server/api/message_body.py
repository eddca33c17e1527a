"""A conversation's turns as a chat's body has them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from . import limits
from .only import Only
from .tool_body import FunctionName
from .unions import one_of, text_or_list

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)


class TextPart(BaseModel):
    """One part of a message's content; text is the only kind this base reads."""

    model_config = _STRICT

    type: Literal["text"]
    text: str


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[
        list[TextPart], Field(min_length=1, max_length=limits.MAX_CONTENT_PARTS), Tag("<list>")
    ],
    Discriminator(text_or_list),
]
Name = Annotated[str, Field(max_length=limits.MAX_NAME)]
Role = Annotated[
    Literal["system", "developer", "user"],
    one_of("system", "developer", "user", "assistant", "tool"),
]


class PlainMessage(BaseModel):
    """Somebody's words to the model."""

    model_config = _STRICT

    role: Role
    content: Content
    name: Name | None = None

    def as_turn(self) -> dict[str, Any]:
        """The message as templates read it. `developer` is OpenAI's newer word for `system`."""
        role = "system" if self.role == "developer" else self.role
        return _turn(role, self.content, self.name)


def check_object(text: str) -> str:
    """`arguments` are the text of a JSON object."""
    try:
        is_object = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise PydanticCustomError("arguments", "must be the text of a JSON object")
    return text


class CalledFunction(BaseModel):
    """Which function was called, and with what: a JSON object's text."""

    model_config = _STRICT

    name: FunctionName
    arguments: Annotated[str, AfterValidator(check_object)]
    parsed_arguments: Any = None  # what OpenAI's clients made of them; nothing reads it


class ToolCall(BaseModel):
    """A call as it was answered."""

    model_config = _STRICT

    id: Annotated[str, Field(min_length=1, max_length=limits.MAX_NAME)]
    type: Literal["function"]
    function: CalledFunction
    index: int | None = None  # clients that put a stream together leave it there

    def as_turn(self) -> dict[str, Any]:
        """Templates read arguments as an object."""
        function = {
            "name": self.function.name,
            "arguments": json.loads(self.function.arguments),
        }
        return {"id": self.id, "type": self.type, "function": function}


def _check_words(content: Any, others: ValidationInfo) -> Any:
    """Only a message that calls something may have no words."""
    if content is None and not others.data.get("tool_calls"):
        raise PydanticCustomError("content", "must be text, unless there are 'tool_calls'")
    return content


class AssistantMessage(BaseModel):
    """An answer, sent back as it came: words, calls, or both."""

    model_config = _STRICT

    role: Literal["assistant"]
    tool_calls: Annotated[list[ToolCall], Field(max_length=limits.MAX_TOOLS)] | None = None
    content: Annotated[Content | None, AfterValidator(_check_words)] = Field(
        default=None, validate_default=True
    )
    name: Name | None = None

    # Other parts of answers, which are null or empty here.
    refusal: Annotated[Any, Only()] = None
    annotations: Annotated[Any, Only([])] = None
    audio: Annotated[Any, Only()] = None
    function_call: Annotated[Any, Only()] = None
    parsed: Any = None  # what OpenAI's clients made of the content; nothing reads it
    provider_specific_fields: Any = None  # LiteLLM's own, which it sends along; nothing reads them

    def as_turn(self) -> dict[str, Any]:
        turn = _turn(self.role, self.content, self.name)
        if self.tool_calls:
            turn["tool_calls"] = [call.as_turn() for call in self.tool_calls]
        return turn


class ToolMessage(BaseModel):
    """What a called function gave back."""

    model_config = _STRICT

    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(min_length=1, max_length=limits.MAX_NAME)]
    name: Name | None = None

    def as_turn(self) -> dict[str, Any]:
        turn = _turn(self.role, self.content, self.name)
        return {**turn, "tool_call_id": self.tool_call_id}


def _kind(value: Any) -> str:
    role = value.get("role") if isinstance(value, dict) else None
    return f"<{role}>" if role in ("assistant", "tool") else "<plain>"


Message = Annotated[
    Annotated[PlainMessage, Tag("<plain>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")],
    Discriminator(_kind),
]


def _turn(role: str, content: str | list[TextPart] | None, name: str | None) -> dict[str, Any]:
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    turn: dict[str, Any] = {"role": role, "content": content or ""}
    return turn if name is None else {**turn, "name": name}
