"""GET /openapi.json: every path, what it wants and what it answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import JsonSchemaValue

from registry.closed_schema import BYTES, JSON, RAW, STREAM, Schemas, closed_schemas, event_schema

from .answer_types import Error
from .openapi_answers import ANSWERS, MEDIA_TYPES, FollowedEvent
from .openapi_operations import OPERATIONS
from .openapi_statuses import statuses_of

_PARAMETER = re.compile(r"{(\w+)}")


def openapi_document() -> dict[str, Any]:
    """The API as OpenAPI 3.1."""
    schemas, definitions = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in OPERATIONS.items():
        described = _operation(path, method, *operation)
        for status, meaning in _meanings(path, method).items():
            described["responses"][str(status)] = {
                "description": meaning,
                **_content(path, method, status, schemas),
            }
        paths.setdefault(path, {})[method] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hatstand registry", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas() -> tuple[Schemas, JsonSchemaValue]:
    """A schema for each type that is answered, and the definitions that they refer to."""
    typed = [answer for answer in ANSWERS.values() if not isinstance(answer, str)]
    return closed_schemas([Error, FollowedEvent, *typed])


def _operation(
    path: str, method: str, summary: str, verb: str, body: str, query: str
) -> dict[str, Any]:
    parameters = [_parameter(name, "path") for name in _PARAMETER.findall(path)]
    parameters += [_parameter(name, "query") for name in query.split()]
    values: dict[str, Any] = {
        "summary": summary,
        "operationId": f"{method}{re.sub(r'[^a-z0-9]+', '_', path.lower())}",
        "parameters": parameters,
        "responses": {},
    }
    if verb:
        values |= {"description": f"Needs the verb `{verb}`.", "security": [{"key": []}]}
    if body == "bytes":
        values["requestBody"] = {"content": {BYTES: {"schema": {}}}}
    elif body:
        properties: dict[str, Any] = {name: {} for name in body.split()}
        schema = {"type": "object", "properties": properties}
        values["requestBody"] = {"content": {JSON: {"schema": schema}}}
    return values


def _meanings(path: str, method: str) -> Mapping[int, str]:
    _, verb, body, _ = OPERATIONS[path, method]
    return statuses_of(path, method, verb=verb, has_body=bool(body))


def _content(path: str, method: str, status: int, schemas: Schemas) -> dict[str, Any]:
    """What comes with a status, by media type."""
    if method == "head":
        return {}
    if status >= 400:
        return {"content": {JSON: {"schema": schemas[Error]}}}
    answer = ANSWERS.get((path, method))
    if answer is None:
        return {}
    if isinstance(answer, str):
        return {"content": {answer: {"schema": RAW[answer]}}}
    kind = MEDIA_TYPES.get((path, method), JSON)
    content: dict[str, Any] = {kind: {"schema": schemas[answer]}}
    if path == "/events":
        content[STREAM] = {"schema": _event(schemas[FollowedEvent])}
    return {"content": content}


def _event(said: JsonSchemaValue) -> JsonSchemaValue:
    """One event of the stream, as OpenAPI 3.1 has it; the first says where the follower stands."""
    cursor = {"type": "object", "required": ["cursor"], "properties": {"cursor": {}}}
    return event_schema([cursor, said])


def _parameter(name: str, place: str) -> dict[str, Any]:
    schema = {"type": "string"}
    return {"name": name, "in": place, "required": place == "path", "schema": schema}
