"""Which shape a request asks its answer to have, among all the ways to say so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from registry.hats import Hat
from server.errors import InvalidRequest
from server.structure import Shape, choice_shape, grammar_shape, json_shape, regex_shape
from server.structure.shapes import WHITESPACE

from .parameters import Parameters
from .structure_body import NamedSchema, ObjectFormat, ResponseFormat, StructuredOutputs, TextFormat

ANY_OBJECT = {"type": "object"}
HAT_SCHEMA = "response_schema"  # the place that a fault of the hat's own schema has


def find_shape(body: Parameters, hat: Hat) -> Shape | None:
    """The request's, else the hat's; None is free text.

    Raises InvalidRequest about a shape that is wrong in itself, and about two of them.
    """
    asked = list(_asked(body))
    if len(asked) > 1:
        first, second = asked[0].param.partition(".")[0], asked[1].param.partition(".")[0]
        raise InvalidRequest(f"'{first}' and '{second}' exclude each other.", param=second)
    if asked:
        return asked[0]
    if hat.response_schema is None or isinstance(body.response_format, TextFormat):
        return None
    return json_shape(hat.response_schema, param=HAT_SCHEMA, strict=False)


def _asked(body: Parameters) -> Iterator[Shape]:
    whitespace = body.guided_whitespace_pattern
    if body.response_format is not None:
        yield from _of_format(body.response_format)
    if body.structured_outputs is not None:
        yield _of_outputs(body.structured_outputs)
    if body.guided_json is not None:
        yield _guided(body.guided_json, "guided_json", whitespace)
    if body.guided_regex is not None:
        yield regex_shape(body.guided_regex, param="guided_regex")
    if body.guided_choice is not None:
        yield choice_shape(body.guided_choice, param="guided_choice")
    if body.guided_grammar is not None:
        yield grammar_shape(body.guided_grammar, param="guided_grammar")


def _of_format(asked: ResponseFormat) -> Iterator[Shape]:
    if isinstance(asked, ObjectFormat):
        yield json_shape(ANY_OBJECT, param="response_format")
    elif not isinstance(asked, TextFormat):
        yield _named(asked.json_schema)


def _named(asked: NamedSchema) -> Shape:
    """OpenAI's: a schema that is not `strict` is followed as far as a grammar can."""
    param = "response_format.json_schema.schema"
    schema = ANY_OBJECT if asked.schema_ is None else asked.schema_
    return json_shape(schema, param=param, strict=bool(asked.strict))


def _of_outputs(asked: StructuredOutputs) -> Shape:
    whitespace = "" if asked.disable_any_whitespace else asked.whitespace_pattern
    name = "structured_outputs"
    shapes: list[Shape] = []
    if asked.json_ is not None:
        shapes.append(_guided(asked.json_, f"{name}.json", whitespace))
    if asked.regex is not None:
        shapes.append(regex_shape(asked.regex, param=f"{name}.regex"))
    if asked.choice is not None:
        shapes.append(choice_shape(asked.choice, param=f"{name}.choice"))
    if asked.grammar is not None:
        shapes.append(grammar_shape(asked.grammar, param=f"{name}.grammar"))
    if asked.json_object:
        shapes.append(_guided(ANY_OBJECT, f"{name}.json_object", whitespace))
    if len(shapes) != 1:
        raise InvalidRequest(
            f"'{name}' must have exactly one of json, regex, choice, grammar and json_object, not "
            f"{len(shapes)}.",
            param=name,
        )
    return shapes[0]


def _guided(schema: dict[str, Any] | str, param: str, whitespace: str | None) -> Shape:
    """vLLM's: a schema as an object or as text, followed to the letter."""
    pattern = WHITESPACE if whitespace is None else whitespace
    parsed = _parsed(schema, param) if isinstance(schema, str) else schema
    return json_shape(parsed, param=param, whitespace=pattern)


def _parsed(text: str, param: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise InvalidRequest(f"'{param}' is not JSON: {failure}.", param=param) from None
