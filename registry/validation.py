"""Turning pydantic's complaints into one sentence that names the key and the nearest right one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .errors import RegistryError

M = TypeVar("M", bound=BaseModel)


def near(word: str, known: Iterable[str], *, many: int = 3) -> str:
    """`; did you mean 'a' or 'b'?`, or nothing when no known word is close."""
    matches = difflib.get_close_matches(word, list(known), n=many, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def first_difference(left: Sequence[object], right: Sequence[object]) -> int:
    """Where two sequences first differ; the shorter one's length where it begins the other."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))


def parse_object(text: str | bytes, *, source: str, error: type[RegistryError]) -> dict[str, Any]:
    """Read one JSON object; anything else raises `error` naming `source` and the place."""
    try:
        value = json.loads(text)
        if "\\u" in (text if isinstance(text, str) else text.decode(errors="ignore")):
            # Half of a surrogate pair is a string to Python, and no text to anybody else.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as failure:  # so are UnicodeDecodeError and -EncodeError
        raise error(f"{source} is not JSON: {failure}", param=source) from None
    if not isinstance(value, dict):
        raise error(f"{source} must hold a JSON object", param=source)
    return value


def parse_model(model: type[M], value: object, *, source: str, error: type[RegistryError]) -> M:
    """Validate `value`; the first complaint becomes `error` with the key as its `param`."""
    try:
        return model.model_validate(value)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = near(str(first["loc"][-1]), _fields(model, first["loc"][:-1]))
            raise error(f"{source}: unknown key {key!r}{hint}", param=key) from None
        message = first["msg"].removeprefix("Value error, ")
        raise error(f"{source}: {key or 'value'}: {message}", param=key or None) from None


def _fields(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The names that may stand at `path` inside `model`."""
    for part in path:
        field = model.model_fields.get(str(part))
        kind = field.annotation if field is not None else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return list(model.model_fields)
