"""Dictionaries that were made of dataclasses, as types that know of which."""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema


class Of:
    """Marks `Annotated[dict[str, Any], Of(Kind)]`: its JSON schema is that of the dataclass."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __get_pydantic_core_schema__(
        self, _source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return handler.generate_schema(self._kind)
