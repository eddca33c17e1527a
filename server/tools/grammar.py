"""Calls as a grammar: in the format's own words, with arguments that follow their schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator

from llguidance import LLMatcher

from server.structure.shapes import Part, Schema, Shape, check_schema, json_options
from server.tools.formats import ARGUMENTS, CLOSING
from server.tools.toolbox import Function, Toolbox

SpecialTokens = dict[str, int]
"""Which of a format's words are single special tokens, and their ids."""


def tool_shape(toolbox: Toolbox, special: SpecialTokens, answer: Shape | None = None) -> Shape:
    """Calls of the toolbox's functions, and unless one is required: text before them, or no call.

    answer: the shape of answers that call nothing; None is free text. Raises InvalidRequest naming
    the place where a function's schema is wrong.
    """
    for function in toolbox.functions:
        check_schema(function.parameters, param=function.param)
    parts = tuple(Part(one.param, one.parameters, one.strict) for one in toolbox.functions)
    rules = [*_rules(toolbox, special)]
    if toolbox.mode == "required":
        rules.append("start: calls")
    elif answer is not None:
        (part,) = answer.parts
        parts += (part,)
        rules += ["start: answer | calls", f"answer: {_json(part.schema, strict=part.strict)}"]
    else:
        rules += [*_among_text(toolbox, special)]
    return Shape(LLMatcher.grammar_from_lark("\n".join(rules)), "tools", parts)


def _rules(toolbox: Toolbox, special: SpecialTokens) -> Iterator[str]:
    """`opening`, `call` (one) and `calls` (all)."""
    yield f"opening: {_word(toolbox.format.opening, special)}"
    for index, function in enumerate(toolbox.functions):
        yield f"arguments_{index}: {_json(function.parameters, strict=function.strict)}"
        yield f"call_{index}: {_call(function, index, toolbox, special)}"
    yield "call: " + " | ".join(f"call_{index}" for index in range(len(toolbox.functions)))
    yield f"calls: opening rest{_others(toolbox)}"
    if toolbox.format.layout == "tagged":
        yield f'rest: "\\n" call "\\n{CLOSING}"'
        yield 'more: "\\n" opening rest'
    elif toolbox.format.layout == "named":
        yield "rest: call"
        yield "more: opening rest"
    else:
        others = '(", " call)*' if toolbox.parallel else ""
        yield f'rest: " "? "[" call {others} "]"'


def _among_text(toolbox: Toolbox, special: SpecialTokens) -> Iterator[str]:
    """Text, and calls after it where the opening word appears."""
    yield "TEXT: /(.|\\n)*/"
    if toolbox.format.opening in special:
        yield "start: TEXT | TEXT calls"
        return
    # Text ends where the word first stands: what follows is a call.
    yield f"until_opening[lazy]: TEXT {json.dumps(toolbox.format.opening)}"
    yield f"start: TEXT | until_opening rest{_others(toolbox)}"


def _call(function: Function, index: int, toolbox: Toolbox, special: SpecialTokens) -> str:
    if toolbox.format.layout == "named":
        word = _word(ARGUMENTS, special)
        return f"{json.dumps(function.name)} {word} arguments_{index}"
    head = f'{{"name": {json.dumps(function.name)}, "arguments": '
    return f'{json.dumps(head)} arguments_{index} "}}"'


def _others(toolbox: Toolbox) -> str:
    """Further calls, where every call has an opening of its own."""
    return " more*" if toolbox.parallel and toolbox.format.layout != "listed" else ""


def _word(word: str, special: SpecialTokens) -> str:
    return f"<[{special[word]}]>" if word in special else json.dumps(word)


def _json(schema: Schema, *, strict: bool) -> str:
    options = {"x-guidance": json_options(strict=strict)}
    return f"%json {json.dumps({**schema, **options})}"
