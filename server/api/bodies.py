"""Bytes in, one of our models out, or an error that names the parameter."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from server.errors import InvalidRequest

from .errors import InvalidJson, MissingParameter, UnknownParameter, UnsupportedParameter
from .only import UNSUPPORTED

Body = TypeVar("Body", bound=BaseModel)


def parse_body(raw: bytes, model: type[Body]) -> Body:
    """Parse a request body once. Raises InvalidRequest (or a subclass) about one fault."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise refusal(error, model) from None


def refusal(error: ValidationError, model: type[BaseModel]) -> InvalidRequest:
    """What a body's first fault is told as."""
    return _refusal(_foremost(error.errors(include_url=False)), model)


def parameter_name(location: Sequence[int | str]) -> str | None:
    """`("messages", 2, "role")` → "messages.2.role"; a union's tags are left out."""
    parts = [str(part) for part in location if not str(part).startswith("<")]
    return ".".join(part for part in parts if part != "[key]") or None


def _foremost(faults: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first; but a name that nobody knows before one that is missing, perhaps for that."""
    if faults[0]["type"] != "missing":
        return faults[0]
    return next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])


def _refusal(fault: ErrorDetails, model: type[BaseModel]) -> InvalidRequest:
    kind, param = fault["type"], parameter_name(fault["loc"])
    if kind == "json_invalid":
        return InvalidJson(f"The body is not valid JSON: {_reason(fault)}.")
    if param is None and kind == "value_error":  # about the body as a whole
        return InvalidRequest(f"The body is wrong: {fault['ctx']['error']}.")
    if param is None:
        return InvalidRequest("The body must be a JSON object.")
    if kind == "missing":
        return MissingParameter(f"'{param}' is required.", param=param)
    if kind == "extra_forbidden":
        return UnknownParameter(_unknown(param, fault["loc"], model), param=param)
    if kind == UNSUPPORTED:
        return UnsupportedParameter(f"'{param}' is {_reason(fault)}.", param=param)
    return InvalidRequest(f"'{param}': {_reason(fault)}.", param=param)


def _reason(fault: ErrorDetails) -> str:
    if fault["type"] == "json_invalid":
        return str(fault.get("ctx", {}).get("error", "it does not parse"))
    return fault["msg"].rstrip(".")


def _unknown(param: str, location: Sequence[int | str], model: type[BaseModel]) -> str:
    message = f"There is no parameter '{param}'."
    if len(location) > 1:
        return message
    return message + hint(str(location[0]), list(model.model_fields))


def hint(name: str, known: Sequence[str]) -> str:
    """What somebody may have meant by a name that is none; "" where nothing is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
