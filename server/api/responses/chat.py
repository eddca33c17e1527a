"""A response's body as the chat that answers it, and that chat's faults in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from server.api.bodies import refusal
from server.api.chat_body import ChatBody
from server.errors import ServingError

from .body import FunctionTool, NamedTool, ResponsesBody, SchemaFormat
from .items import Message, as_messages

# What a parameter of the chat is called here; the longest first.
_NAMES = (
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("messages", "input"),
)
_SAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "parallel_tool_calls",
    "user",
    "adapters",
)


def chat_body(body: ResponsesBody, before: Sequence[Message]) -> ChatBody:
    """The chat after what was said `before`. Instructions are of this response alone.

    Raises InvalidRequest where they do not make a chat together, as when that is too long.
    """
    opening = [] if body.instructions is None else [_system(body.instructions)]
    values: dict[str, Any] = {
        "model": body.model,
        "messages": [*opening, *before, *as_messages(body.items)],
        "stream": body.stream,
        "max_completion_tokens": body.max_output_tokens,
        "response_format": _response_format(body),
        "tools": None if body.tools is None else [_tool(tool) for tool in body.tools],
        "tool_choice": _tool_choice(body),
    }
    values |= {name: getattr(body, name) for name in _SAME}
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return ChatBody.model_validate(given)
    except ValidationError as error:
        raise refusal(error, ChatBody) from None


def renamed(error: ServingError) -> ServingError:
    """The same error, its parameter called as this endpoint calls it."""
    for name, here in _NAMES:
        if error.param is not None and f"{error.param}.".startswith(f"{name}."):
            error.message = error.message.replace(f"'{error.param}'", f"'{here}'")
            error.param = here + error.param.removeprefix(name)
            break
    return error


def _system(text: str) -> Message:
    return {"role": "system", "content": text}


def _response_format(body: ResponsesBody) -> dict[str, Any] | None:
    form = None if body.text is None else body.text.format
    if form is None:
        return None
    if not isinstance(form, SchemaFormat):
        return {"type": form.type}
    schema = {"name": form.name, "schema": form.schema_, "strict": form.strict}
    return {"type": "json_schema", "json_schema": schema}


def _tool(tool: FunctionTool) -> dict[str, Any]:
    values = tool.model_dump(exclude={"type"}, exclude_none=True)
    return {"type": "function", "function": values}


def _tool_choice(body: ResponsesBody) -> Any:
    if isinstance(body.tool_choice, NamedTool):
        return {"type": "function", "function": {"name": body.tool_choice.name}}
    return body.tool_choice
