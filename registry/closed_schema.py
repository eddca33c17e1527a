"""JSON schemas of answers, for the OpenAPI documents of servers and of the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

JSON, STREAM = "application/json", "text/event-stream"
TEXT, BYTES = "text/plain", "application/octet-stream"
RAW: Mapping[str, Mapping[str, Any]] = {TEXT: {"type": "string"}, BYTES: {}}
"""What comes by these media types."""
_MODE: JsonSchemaMode = "validation"

Schemas = Mapping[Any, JsonSchemaValue]
"""By type."""


class ClosedSchema(GenerateJsonSchema):
    """What is answered has the fields that are listed, and no others."""

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return {**super().typed_dict_schema(schema), "additionalProperties": False}

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return {**super().dataclass_schema(schema), "additionalProperties": False}


def closed_schemas(types: Iterable[Any]) -> tuple[Schemas, JsonSchemaValue]:
    """A schema for each type, and the definitions that they refer to."""
    found, rest = TypeAdapter.json_schemas(
        [(kind, _MODE, TypeAdapter(kind)) for kind in dict.fromkeys(types)],
        ref_template="#/components/schemas/{model}",
        schema_generator=ClosedSchema,
    )
    return {kind: schema for (kind, _), schema in found.items()}, rest["$defs"]


def event_schema(
    contents: Iterable[JsonSchemaValue], *, words: Iterable[str] = ()
) -> JsonSchemaValue:
    """One event of a stream, as OpenAPI 3.1 has it: `data` is JSON, or one of some words."""
    content = {
        "type": "string",
        "contentMediaType": JSON,
        "contentSchema": {"anyOf": list(contents)},
    }
    told = [{"const": word} for word in words]
    data = {"anyOf": [*told, content]} if told else content
    return {"type": "object", "required": ["data"], "properties": {"data": data}}
