"""The body of POST /v1/responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from server.api import limits
from server.api.composition_body import WeightedNames
from server.api.only import Only
from server.api.structure_body import FORMATS, NAME, JsonSchema
from server.api.tool_body import FunctionName
from server.api.unions import one_of

from .items import Id, Input, Item, MessageItem

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class PlainFormat(BaseModel):
    """Free text, or any JSON object."""

    model_config = _STRICT

    type: Annotated[Literal["text", "json_object"], one_of(*FORMATS)]


class SchemaFormat(BaseModel):
    """JSON that follows a schema."""

    # `schema` is a method of pydantic's models: hence the alias.
    model_config = ConfigDict(**_STRICT, validate_by_alias=True)

    type: Literal["json_schema"]
    name: Annotated[str, StringConstraints(pattern=NAME)]
    description: str | None = None
    schema_: JsonSchema = Field(alias="schema")
    strict: bool | None = None


def _format(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return "<json_schema>" if kind == "json_schema" else "<plain>"


class Text(BaseModel):
    """What the answer has to look like."""

    model_config = _STRICT

    format: (
        Annotated[
            Annotated[PlainFormat, Tag("<plain>")] | Annotated[SchemaFormat, Tag("<json_schema>")],
            Discriminator(_format),
        ]
        | None
    ) = None
    verbosity: Annotated[Any, Only()] = None


class FunctionTool(BaseModel):
    """A function that the model may call; the only kind of tool here."""

    model_config = _STRICT

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(BaseModel):
    """The one function that has to be called."""

    model_config = _STRICT

    type: Literal["function"]
    name: FunctionName


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")]
    | Annotated[NamedTool, Tag("<named>")],
    Discriminator(lambda value: "<named>" if isinstance(value, dict) else "<word>"),
]


class ResponsesBody(BaseModel):
    """A question, or the next turn of a conversation that is kept here."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    model: Annotated[str, StringConstraints(min_length=1, max_length=limits.MAX_NAME)]
    input: Input
    instructions: str | None = None
    previous_response_id: Id | None = None
    store: bool | None = None
    stream: bool | None = None

    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=limits.HIGHEST_TEMPERATURE)
    top_p: float | None = Field(default=None, gt=0, le=1)
    text: Text | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=limits.MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None  # comes back with the response

    adapters: WeightedNames | None = None  # whose updates are added up, as in chats

    # vLLM's, as in chats.
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)

    # Accepted because clients send them, and without effect here.
    user: Annotated[str, StringConstraints(max_length=1024)] | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None

    # Known elsewhere, not carried out here.
    access_programs: Annotated[Any, Only([])] = None
    background: Annotated[Any, Only(False)] = None
    background_options: Annotated[Any, Only()] = None
    context_management: Annotated[Any, Only([])] = None
    conversation: Annotated[Any, Only()] = None
    image: Annotated[Any, Only()] = None
    include: Annotated[Any, Only([])] = None
    max_tool_calls: Annotated[Any, Only()] = None
    moderation: Annotated[Any, Only()] = None
    prompt: Annotated[Any, Only()] = None
    reasoning: Annotated[Any, Only({})] = None
    stream_options: Annotated[Any, Only({}, {"include_obfuscation": False})] = None
    top_logprobs: Annotated[Any, Only(0)] = None
    truncation: Annotated[Any, Only("disabled")] = None

    @property
    def items(self) -> list[Item]:
        """`input`; a text is one message of the user's."""
        if isinstance(self.input, str):
            return [MessageItem(role="user", content=self.input)]
        return self.input

    @property
    def is_kept(self) -> bool:
        """OpenAI keeps a response unless it is told not to."""
        return self.store is not False
