"""What an answer has to look like: from a request's words to a grammar's text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher, grammar_from

from registry import schemas
from server.errors import InvalidRequest

MAX_REGEX = 4096  # characters
MAX_GRAMMAR = 64 << 10  # characters
MAX_CHOICES = 4096

Schema = Mapping[str, Any]

# Between two tokens of JSON: a line's end and its indentation, so that a model may write as it has
# learned to, but not spaces for ever.
WHITESPACE = r"\n?[ ]{0,24}"


@dataclass(frozen=True)
class Part:
    """A JSON Schema that a grammar is made of, and its place in the request."""

    param: str
    schema: Schema
    strict: bool = True


@dataclass(frozen=True)
class Shape:
    """A grammar as llguidance reads it, which parameter asked for it, and the schemas in it."""

    grammar: str
    param: str
    parts: tuple[Part, ...] = ()


def json_shape(
    schema: Schema, *, param: str, strict: bool = True, whitespace: str = WHITESPACE
) -> Shape:
    """JSON that follows `schema`. Raises InvalidRequest naming the place that is wrong.

    Without `strict`, keywords that no grammar can be made of are left out of account.
    """
    check_schema(schema, param=param)
    grammar = LLMatcher.grammar_from_json_schema(
        json.dumps(schema), overrides=json_options(strict=strict, whitespace=whitespace)
    )
    return Shape(grammar, param, (Part(param, schema, strict),))


def json_options(*, strict: bool, whitespace: str = WHITESPACE) -> Any:
    """How llguidance makes a grammar of a schema (its JsonCompileOptions)."""
    return {
        "whitespace_flexible": bool(whitespace),
        "whitespace_pattern": whitespace or None,
        "lenient": not strict,
    }


def check_schema(schema: Any, *, param: str) -> None:
    """Raise InvalidRequest naming the place where `schema` is no usable JSON Schema."""
    fault = schemas.find_fault(schema)
    if fault is None and not isinstance(schema, dict):
        fault = schemas.Fault((), "an answer's schema is an object")
    if fault is not None:
        place = fault.below(param)
        raise InvalidRequest(f"'{place}': {fault.reason}.", param=place)


def regex_shape(regex: str, *, param: str) -> Shape:
    """Text that a regular expression matches as a whole."""
    if len(regex) > MAX_REGEX:
        raise InvalidRequest(
            f"'{param}': {len(regex)} characters are over the limit of {MAX_REGEX}.", param=param
        )
    return Shape(LLMatcher.grammar_from_regex(regex), param)


def choice_shape(choices: Sequence[str], *, param: str) -> Shape:
    """One of the given texts."""
    if not 0 < len(choices) <= MAX_CHOICES:
        raise InvalidRequest(
            f"'{param}': there must be 1 to {MAX_CHOICES} choices, not {len(choices)}.", param=param
        )
    if "" in choices:
        raise InvalidRequest(f"'{param}': an empty text is no choice.", param=param)
    return Shape(grammar_from("choice", json.dumps(list(choices))), param)


def grammar_shape(text: str, *, param: str) -> Shape:
    """Text that a grammar in llguidance's Lark or llama.cpp's GBNF produces."""
    if len(text) > MAX_GRAMMAR:
        raise InvalidRequest(
            f"'{param}': {len(text)} characters are over the limit of {MAX_GRAMMAR}.", param=param
        )
    try:
        return Shape(grammar_from("grammar", text), param)
    except ValueError as failure:
        raise InvalidRequest(f"'{param}': {failure}.", param=param) from None
