"""Parameters that OpenAI or vLLM know and this server does not carry out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

UNSUPPORTED = "unsupported_parameter"


@dataclass(frozen=True, eq=False)  # equal ones would share a type: 1 and JSON's true are
class Only:
    """Marks a parameter that may be absent, null, or one of the `accepted` values."""

    accepted: tuple[Any, ...]

    def __init__(self, *accepted: Any) -> None:
        object.__setattr__(self, "accepted", accepted)

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, core_schema.any_schema())

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"enum": [*self.accepted, None], "description": "Other values are refused."}

    def _check(self, value: Any) -> Any:
        if value is None or any(_same(value, allowed) for allowed in self.accepted):
            return value
        listed = " or ".join(json.dumps(allowed) for allowed in self.accepted)
        allowed = f" (only {listed} is)" if listed else ""
        raise PydanticCustomError(UNSUPPORTED, "not supported here{allowed}", {"allowed": allowed})


def _same(value: Any, allowed: Any) -> bool:
    """Equal and of one type: JSON's `true` is not 1."""
    return type(value) is type(allowed) and bool(value == allowed)
