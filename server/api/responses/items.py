"""What `input` may be made of, and the chat's messages that stand for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from server.api import limits
from server.api.message_body import check_object
from server.api.only import Only
from server.api.tool_body import FunctionName
from server.api.unions import one_of, text_or_list

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
Id = Annotated[str, Field(min_length=1, max_length=limits.MAX_NAME)]
TYPES = ("message", "function_call", "function_call_output")
Message = dict[str, Any]
"""A message as a chat's body has it."""


class TextItemPart(BaseModel):
    """One stretch of text, the user's or an earlier answer's."""

    model_config = _STRICT

    type: Literal["input_text", "output_text"]
    text: str
    annotations: Annotated[Any, Only([])] = None
    logprobs: Any = None  # sent back as they came; nothing reads them
    parsed: Any = None  # what OpenAI's clients made of the text; nothing reads it


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[
        list[TextItemPart], Field(min_length=1, max_length=limits.MAX_CONTENT_PARTS), Tag("<list>")
    ],
    Discriminator(text_or_list),
]


class MessageItem(BaseModel):
    """Somebody's words."""

    model_config = _STRICT

    type: Annotated[Literal["message"], one_of(*TYPES)] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: Id | None = None
    status: str | None = None
    phase: str | None = None

    def as_message(self) -> Message:
        return {"role": self.role, "content": _text(self.content)}


class CallItem(BaseModel):
    """A function that an earlier answer called."""

    model_config = _STRICT

    type: Literal["function_call"]
    call_id: Id
    name: FunctionName
    arguments: Annotated[str, AfterValidator(check_object)]
    parsed_arguments: Any = None  # what OpenAI's clients made of them; nothing reads it
    id: Id | None = None
    status: str | None = None

    def as_message(self) -> Message:
        function = {"name": self.name, "arguments": self.arguments}
        call = {"id": self.call_id, "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}


class OutputItem(BaseModel):
    """What a called function gave back."""

    model_config = _STRICT

    type: Literal["function_call_output"]
    call_id: Id
    output: Content
    id: Id | None = None
    status: str | None = None

    def as_message(self) -> Message:
        return {"role": "tool", "tool_call_id": self.call_id, "content": _text(self.output)}


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("function_call", "function_call_output") else "<message>"


Item = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[CallItem, Tag("<function_call>")]
    | Annotated[OutputItem, Tag("<function_call_output>")],
    Discriminator(_kind),
]
Input = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[Item], Field(min_length=1, max_length=limits.MAX_MESSAGES), Tag("<list>")],
    Discriminator(text_or_list),
]


def as_messages(items: Iterable[Item]) -> list[Message]:
    """The items in their order; an answer's words and calls, which follow each other, as one."""
    messages: list[Message] = []
    for item in items:
        message = item.as_message()
        if isinstance(item, CallItem) and messages and messages[-1]["role"] == "assistant":
            calls = [*messages[-1].get("tool_calls", ()), *message["tool_calls"]]
            messages[-1] = {**messages[-1], "tool_calls": calls}
        else:
            messages.append(message)
    return messages


def _text(content: str | list[TextItemPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
