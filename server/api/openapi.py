"""GET /openapi.json, made from the models that parse the bodies and the types of the answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic.json_schema import JsonSchemaValue

from registry.closed_schema import JSON, RAW, STREAM, Schemas, closed_schemas, event_schema

from .documents.error import Error
from .openapi_operations import OPERATIONS, TUNING_OPERATIONS, Operation
from .openapi_tables import GENERATING, HEADERS, MEANINGS, PROBES, QUERIES, STATUSES, UPLOAD


def openapi_document(*, version: str, tunes: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 description of every path; those of fine-tuning where the server `tunes`."""
    operations = OPERATIONS + (TUNING_OPERATIONS if tunes else ())
    schemas, definitions = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hatstand", "version": version},
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(operations: Sequence[Operation]) -> tuple[Schemas, JsonSchemaValue]:
    """A schema for each type that goes in or out, and the definitions that they refer to."""
    return closed_schemas([Error, *(kind for each in operations for kind in _types(each))])


def _types(operation: Operation) -> Iterator[Any]:
    for kind in (operation.body, operation.answer, operation.event):
        if kind is not None and not isinstance(kind, str):
            yield kind


def _described(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    path, method = operation.path, operation.method
    refusals = {
        str(status): _refusal(status, operation, schemas)
        for status in sorted(STATUSES[path, method])
    }
    answer = {"description": "OK", "content": _content(operation, schemas)}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {"200": answer, **refusals},
    }
    if operation.body is not None:
        found["requestBody"] = _taken(JSON, schemas[operation.body])
    if (path, method) == ("/v1/files", "post"):
        found["requestBody"] = _taken("multipart/form-data", UPLOAD)
    if parameters := _parameters(path, method):
        found["parameters"] = parameters
    return found


def _taken(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {kind: {"schema": schema}}}


def _content(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    """What 200 comes with, by media type."""
    if isinstance(operation.answer, str):
        return {operation.answer: {"schema": RAW[operation.answer]}}
    content: dict[str, Any] = {JSON: {"schema": schemas[operation.answer]}}
    if operation.event is not None:
        content[STREAM] = {"schema": _event(schemas[operation.event], schemas[Error])}
    return content


def _event(said: JsonSchemaValue, error: JsonSchemaValue) -> JsonSchemaValue:
    """One event of a stream, as OpenAPI 3.1 has it: `data` is JSON, or the word that it is over."""
    return event_schema([*said.get("anyOf", [said]), error], words=["[DONE]"])


def _refusal(status: int, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    schema = schemas[operation.answer if operation.path in PROBES else Error]
    return {"description": MEANINGS[status], "content": {JSON: {"schema": schema}}}


def _parameters(path: str, method: str) -> list[dict[str, Any]]:
    named: list[tuple[str, str, Any]]
    named = [(name, "path", {"type": "string"}) for name in re.findall(r"{(\w+)}", path)]
    named += [(name, "query", schema) for name, schema in QUERIES.get((path, method), {}).items()]
    if path in GENERATING:
        named += [(name, "header", schema) for name, schema in HEADERS.items()]
    return [
        {"name": name, "in": place, "required": place == "path", "schema": schema}
        for name, place, schema in named
    ]
