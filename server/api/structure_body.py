"""The parameters that say what an answer has to look like: OpenAI's, and vLLM's older and newer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from . import limits
from .only import Only
from .unions import one_of

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
JsonSchema = dict[str, Any]
Choices = Annotated[list[str], Field(min_length=1)]
FORMATS = ("text", "json_object", "json_schema")
NAME = r"^[a-zA-Z0-9_.-]{1,64}$"


class TextFormat(BaseModel):
    """Free text, even where the adapter's hat has a schema."""

    model_config = _STRICT

    type: Annotated[Literal["text"], one_of(*FORMATS)]


class ObjectFormat(BaseModel):
    """Any JSON object."""

    model_config = _STRICT

    type: Literal["json_object"]


class NamedSchema(BaseModel):
    """`json_schema`: the schema and its name, which nothing here depends on."""

    # `schema` is a method of pydantic's models: hence the alias.
    model_config = ConfigDict(**_STRICT, validate_by_alias=True)

    name: Annotated[str, StringConstraints(pattern=NAME)]
    description: str | None = None
    schema_: JsonSchema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class SchemaFormat(BaseModel):
    """JSON that follows a schema."""

    model_config = _STRICT

    type: Literal["json_schema"]
    json_schema: NamedSchema


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("json_object", "json_schema") else "<text>"


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[ObjectFormat, Tag("<json_object>")]
    | Annotated[SchemaFormat, Tag("<json_schema>")],
    Discriminator(_kind),
]

# vLLM takes a schema as an object or as its text.
GuidedJson = Annotated[
    Annotated[JsonSchema, Tag("<schema>")] | Annotated[str, Tag("<text>")],
    Discriminator(lambda value: "<text>" if isinstance(value, str) else "<schema>"),
]


class StructuredOutputs(BaseModel):
    """vLLM's `structured_outputs`: exactly one of json, regex, choice, grammar and json_object."""

    model_config = _STRICT

    json_: GuidedJson | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None
    whitespace_pattern: (
        Annotated[str, StringConstraints(max_length=limits.MAX_STOP_LENGTH)] | None
    ) = None
    disable_any_whitespace: bool | None = None
    disable_fallback: bool | None = None  # there is one way here, and nothing to fall back to
    disable_additional_properties: Annotated[Any, Only(False)] = None
    structural_tag: Annotated[Any, Only()] = None
