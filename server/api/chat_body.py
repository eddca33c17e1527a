"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from . import limits
from .only import Only
from .parameters import Parameters


class TextPart(BaseModel):
    """One part of a message's content; text is the only kind this base reads."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    type: Literal["text"]
    text: str


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[
        list[TextPart], Field(min_length=1, max_length=limits.MAX_CONTENT_PARTS), Tag("<list>")
    ],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
]


class Message(BaseModel):
    """One turn of the conversation."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Annotated[str, Field(max_length=limits.MAX_NAME)] | None = None

    # Answers are often sent back as they came; these parts of them are null or empty here.
    refusal: Annotated[Any, Only()] = None
    annotations: Annotated[Any, Only([])] = None
    audio: Annotated[Any, Only()] = None
    function_call: Annotated[Any, Only()] = None
    tool_calls: Annotated[Any, Only([])] = None
    tool_call_id: Annotated[Any, Only()] = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)

    def as_turn(self) -> dict[str, str]:
        """The message as templates read it. `developer` is OpenAI's newer word for `system`."""
        role = "system" if self.role == "developer" else self.role
        turn = {"role": role, "content": self.text}
        return turn if self.name is None else {**turn, "name": self.name}


class ChatBody(Parameters):
    """A chat, and how to answer it."""

    messages: list[Message] = Field(min_length=1, max_length=limits.MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=limits.MAX_LOGPROBS)

    # Accepted because clients send them, and without effect here.
    store: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    parallel_tool_calls: bool | None = None

    # Known elsewhere, not carried out here.
    best_of: Annotated[Any, Only(1)] = None
    echo: Annotated[Any, Only(False)] = None
    tools: Annotated[Any, Only([])] = None
    tool_choice: Annotated[Any, Only("none", "auto")] = None
    functions: Annotated[Any, Only([])] = None
    function_call: Annotated[Any, Only("none", "auto")] = None
    modalities: Annotated[Any, Only(["text"])] = None
    audio: Annotated[Any, Only()] = None
    prediction: Annotated[Any, Only()] = None
    reasoning_effort: Annotated[Any, Only()] = None
    verbosity: Annotated[Any, Only()] = None
    web_search_options: Annotated[Any, Only()] = None
    chat_template: Annotated[Any, Only()] = None
    chat_template_kwargs: Annotated[Any, Only({})] = None
    add_generation_prompt: Annotated[Any, Only(True)] = None
    continue_final_message: Annotated[Any, Only(False)] = None
    documents: Annotated[Any, Only([])] = None

    @property
    def turns(self) -> list[dict[str, Any]]:
        return [message.as_turn() for message in self.messages]

    @property
    def completion_limit(self) -> int | None:
        """`max_completion_tokens` is OpenAI's newer name for `max_tokens`."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens
        return self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None
