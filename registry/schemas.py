"""JSON Schemas of answers: their limits, and where one is wrong.

Whether a grammar can be made of a schema only the server can tell (`server.structure`); what is
found here needs nothing but the schema, so that a push already refuses it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 64 << 10  # of the schema written as JSON
MAX_DEPTH = 64  # keywords and names on the way to a part
MAX_SCHEMAS = 4096  # all of them, the root included

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
RESERVED = "x-guidance"  # the grammar library's own options, which the server sets

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = (
    "items",
    "additionalItems",
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Fault:
    """What is wrong, and where: `("properties", "age", "type")`."""

    path: Path
    reason: str

    def below(self, name: str) -> str:
        """The place as a parameter's name: "schema.properties.age.type"."""
        return ".".join([name, *map(str, self.path)])


def find_fault(schema: Any) -> Fault | None:
    """The first thing that makes `schema` no usable JSON Schema; None if there is none."""
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as failure:
        return Fault((), f"not JSON, or nested too deeply: {failure}")
    if size > MAX_BYTES:
        return Fault((), f"{size} bytes are over the limit of {MAX_BYTES}")
    for count, (path, part) in enumerate(subschemas(schema)):
        if count == MAX_SCHEMAS:
            return Fault(path, f"more than {MAX_SCHEMAS} schemas in one")
        if len(path) > MAX_DEPTH:
            return Fault(path, f"nested more than {MAX_DEPTH} keywords deep")
        fault = _fault_of(path, part, schema)
        if fault is not None:
            return fault
    return None


def subschemas(schema: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """`schema` and all that are part of it, outer ones first; no deeper than anyone may go."""
    yield path, schema
    if not isinstance(schema, Mapping) or len(path) > MAX_DEPTH:
        return
    for keyword in _NAMED:
        if isinstance(named := schema.get(keyword), Mapping):
            for name, part in named.items():
                yield from subschemas(part, (*path, keyword, name))
    for keyword in _LISTED:
        if isinstance(listed := schema.get(keyword), list):
            for index, part in enumerate(listed):
                yield from subschemas(part, (*path, keyword, index))
    for keyword in _SINGLE:
        if keyword in schema:
            yield from subschemas(schema[keyword], (*path, keyword))


def _fault_of(path: Path, part: Any, root: Any) -> Fault | None:
    """What is wrong with one schema by itself."""
    if isinstance(part, bool):
        return None
    if not isinstance(part, Mapping):
        return Fault(path, "a schema is an object, true or false")
    if RESERVED in part:
        return Fault((*path, RESERVED), "not a keyword that a schema may bring")
    for keyword in _NAMED:
        if not isinstance(part.get(keyword, {}), Mapping):
            return Fault((*path, keyword), "must be an object of schemas")
    for keyword in _LISTED:
        if keyword in part and not (isinstance(part[keyword], list) and part[keyword]):
            return Fault((*path, keyword), "must be a list with at least one schema")
    return _wrong_value(path, part) or _dead_reference(path, part, root)


def _wrong_value(path: Path, part: Mapping[str, Any]) -> Fault | None:
    kinds = part.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in TYPES:
            return Fault((*path, "type"), f"{kind!r} is no type; there are {', '.join(TYPES)}")
    if "enum" in part and not (isinstance(part["enum"], list) and part["enum"]):
        return Fault((*path, "enum"), "must be a list with at least one value")
    required = part.get("required", [])
    if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        return Fault((*path, "required"), "must be a list of names")
    for keyword in ("pattern", "format", "$ref"):
        if not isinstance(part.get(keyword, ""), str):
            return Fault((*path, keyword), "must be a string")
    return None


def _dead_reference(path: Path, part: Mapping[str, Any], root: Any) -> Fault | None:
    reference = part.get("$ref", "#")
    if not reference.startswith("#"):
        return Fault((*path, "$ref"), "only references into the schema itself are followed")
    if reference.startswith("#/") and not _points_somewhere(reference[2:], root):
        return Fault((*path, "$ref"), f"{reference!r} points at nothing")
    return None


def _points_somewhere(pointer: str, root: Any) -> bool:
    """Whether a JSON pointer (RFC 6901) without its first `/` leads to something."""
    there = root
    for step in pointer.split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(there, Mapping) and key in there:
            there = there[key]
        elif isinstance(there, list) and key.isdecimal() and int(key) < len(there):
            there = there[int(key)]
        else:
            return False
    return True
