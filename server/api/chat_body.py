"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from . import limits
from .errors import UnsupportedParameter
from .message_body import Message
from .only import Only
from .parameters import Parameters
from .tool_body import ToolChoice, Tools


class ChatBody(Parameters):
    """A chat, and how to answer it."""

    messages: list[Message] = Field(min_length=1, max_length=limits.MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=limits.MAX_LOGPROBS)

    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    # Accepted because clients send them, and without effect here.
    store: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None

    # Known elsewhere, not carried out here.
    best_of: Annotated[Any, Only(1)] = None
    echo: Annotated[Any, Only(False)] = None
    functions: Annotated[Any, Only([])] = None
    function_call: Annotated[Any, Only("none", "auto")] = None
    modalities: Annotated[Any, Only(["text"])] = None
    audio: Annotated[Any, Only()] = None
    prediction: Annotated[Any, Only()] = None
    moderation: Annotated[Any, Only()] = None
    reasoning_effort: Annotated[Any, Only("none")] = None
    verbosity: Annotated[Any, Only("medium")] = None
    web_search_options: Annotated[Any, Only()] = None
    chat_template: Annotated[Any, Only()] = None
    chat_template_kwargs: Annotated[Any, Only({})] = None
    add_generation_prompt: Annotated[Any, Only(True)] = None
    continue_final_message: Annotated[Any, Only(False)] = None
    documents: Annotated[Any, Only([])] = None

    def check(self) -> None:
        """Raise InvalidRequest about parameters that do not go together."""
        super().check()
        if self.top_logprobs and not self.logprobs:
            raise UnsupportedParameter(
                "'top_logprobs' only means something with 'logprobs': true.", param="top_logprobs"
            )

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
