"""OpenAI's typed events, of which a streamed response is made."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from .response import OutputItem, OutputText, ResponseObject


class Numbered(TypedDict):
    """Events count from 0."""

    sequence_number: int


class ResponseMoved(Numbered):
    """The response began, or came to its end."""

    type: Literal[
        "response.created", "response.in_progress", "response.completed", "response.incomplete"
    ]
    response: ResponseObject


class ItemMoved(Numbered):
    """An item of the output began or ended."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class InItem(Numbered):
    """Something about an item of the output."""

    item_id: str
    output_index: int


class PartMoved(InItem):
    """A stretch of words began or ended."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    content_index: int
    part: OutputText


class TextGained(InItem):
    """More words."""

    type: Literal["response.output_text.delta"]
    content_index: int
    delta: str
    logprobs: list[Any]


class TextDone(InItem):
    """All the words."""

    type: Literal["response.output_text.done"]
    content_index: int
    text: str
    logprobs: list[Any]


class ArgumentsGained(InItem):
    """More of a call's arguments."""

    type: Literal["response.function_call_arguments.delta"]
    delta: str


class ArgumentsDone(InItem):
    """All of a call's arguments."""

    type: Literal["response.function_call_arguments.done"]
    arguments: str
    name: str


ResponseEvent = (
    ResponseMoved | ItemMoved | PartMoved | TextGained | TextDone | ArgumentsGained | ArgumentsDone
)
