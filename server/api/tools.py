"""What a chat lets the model call, and how that shapes the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from server.errors import InvalidRequest
from server.structure import Shape
from server.tools import Function, Toolbox, find_format, tool_shape
from server.tools.formats import ARGUMENTS

from .chat_body import ChatBody
from .ports import Tokenizer
from .tool_body import AllowedTools, FunctionBody, NamedTool, ToolBody

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
NOTHING_ELSE: dict[str, Any] = {"additionalProperties": False}


def find_toolbox(body: ChatBody, template: str, label: str) -> Toolbox | None:
    """The functions that may be called; None if there are none, or none is to be.

    Raises InvalidRequest naming what does not go together, or that the template knows no calls.
    """
    if not body.tools:
        if body.tool_choice not in (None, "none", "auto"):
            raise InvalidRequest("'tool_choice' asks for 'tools'.", param="tool_choice")
        return None
    _check_names(body.tools)
    if body.tool_choice == "none":
        return None
    form = find_format(template)
    if form is None:
        raise InvalidRequest(
            f"The chat template of '{label}' has no calls in a format that is known here: neither "
            "[TOOL_CALLS] (Mistral's) nor <tool_call> (Hermes').",
            param="tools",
        )
    names, mode = _chosen(body)
    functions = [
        _function(tool.function, index)
        for index, tool in enumerate(body.tools)
        if names is None or tool.function.name in names
    ]
    is_one = isinstance(body.tool_choice, NamedTool)
    parallel = body.parallel_tool_calls is not False and not is_one
    return Toolbox(tuple(functions), mode, parallel, form)


def rendered_tools(body: ChatBody, toolbox: Toolbox | None) -> list[dict[str, Any]] | None:
    """`tools` as templates read them; all of them, whichever are allowed this time."""
    return None if toolbox is None else [_rendered(tool.function) for tool in body.tools or ()]


def special_words(toolbox: Toolbox, tokenizer: Tokenizer) -> dict[str, int]:
    """Which words of the format are single special tokens of the base."""
    words = (toolbox.format.opening, ARGUMENTS)
    found = {word: tokenizer.special_token_id(word) for word in words}
    return {word: token_id for word, token_id in found.items() if token_id is not None}


def with_tools(answer: Shape | None, toolbox: Toolbox, special: dict[str, int]) -> Shape | None:
    """The shape of an answer that may call, where it would be `answer` if it did not."""
    if toolbox.mode == "required":
        return tool_shape(toolbox, special)
    if answer is None:
        return tool_shape(toolbox, special) if toolbox.is_enforced else None
    if len(answer.parts) != 1:
        param = answer.param.partition(".")[0]
        raise InvalidRequest(
            f"'{param}' and 'tools' exclude each other: an answer that may also be a call can "
            "follow a JSON schema only.",
            param=param,
        )
    return tool_shape(toolbox, special, answer)


def _chosen(body: ChatBody) -> tuple[set[str] | None, Literal["auto", "required"]]:
    """Names of the functions that may be called (None: all), and whether one has to be."""
    choice = body.tool_choice
    if isinstance(choice, NamedTool):
        _check_known(choice.function.name, body, "tool_choice.function.name")
        return {choice.function.name}, "required"
    if isinstance(choice, AllowedTools):
        names = [tool.function.name for tool in choice.allowed_tools.tools]
        for index, name in enumerate(names):
            place = f"tool_choice.allowed_tools.tools.{index}.function.name"
            _check_known(name, body, place)
        return set(names), choice.allowed_tools.mode
    return None, "required" if choice == "required" else "auto"


def _check_known(name: str, body: ChatBody, param: str) -> None:
    if name not in {tool.function.name for tool in body.tools or ()}:
        raise InvalidRequest(f"'{param}': 'tools' has no function '{name}'.", param=param)


def _check_names(tools: Sequence[ToolBody]) -> None:
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        name, param = tool.function.name, f"tools.{index}.function.name"
        if name in seen:
            raise InvalidRequest(f"'{param}': there is a '{name}' already.", param=param)
        seen.add(name)


def _function(body: FunctionBody, index: int) -> Function:
    place = f"tools.{index}.function.parameters"
    parameters = body.parameters or {**NO_ARGUMENTS, **NOTHING_ELSE}
    return Function(body.name, place, parameters, bool(body.strict))


def _rendered(body: FunctionBody) -> dict[str, Any]:
    described = {} if body.description is None else {"description": body.description}
    parameters = body.parameters or NO_ARGUMENTS
    return {
        "type": "function",
        "function": {"name": body.name, **described, "parameters": parameters},
    }
