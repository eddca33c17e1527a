"""The bodies of POST /tokenize and /detokenize, in vLLM's words."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from . import limits
from .message_body import Message
from .only import Only

Name = Annotated[str, Field(min_length=1, max_length=limits.MAX_NAME)]
_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class TokenizeBody(BaseModel):
    """A text as completions read it, or a conversation under the model's hat."""

    model_config = _STRICT

    model: Name
    prompt: str | None = None
    messages: list[Message] | None = Field(
        default=None, min_length=1, max_length=limits.MAX_MESSAGES
    )
    add_special_tokens: bool | None = None  # of a text: true
    return_token_strs: bool | None = None
    add_generation_prompt: Annotated[Any, Only(True)] = None
    continue_final_message: Annotated[Any, Only(False)] = None

    @model_validator(mode="after")
    def _check_one(self) -> TokenizeBody:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give 'prompt' or 'messages', and not both")
        return self


class DetokenizeBody(BaseModel):
    """Tokens to write out, special ones included."""

    model_config = _STRICT

    model: Name
    tokens: list[Annotated[int, Field(ge=0)]] = Field(max_length=limits.MAX_TOKENS_TO_TEXT)
