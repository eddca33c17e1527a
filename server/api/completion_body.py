"""The body of POST /v1/completions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from . import limits
from .parameters import Parameters, TokenId, by_shape

TokenPrompt = Annotated[list[TokenId], Field(min_length=1)]
Prompt = Annotated[
    Annotated[str, Field(min_length=1), Tag("<text>")]
    | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), Tag("<list>")]
    | Annotated[TokenPrompt, Tag("<tokens>")]
    | Annotated[list[TokenPrompt], Field(min_length=1), Tag("<token lists>")],
    Discriminator(by_shape),
]


class CompletionBody(Parameters):
    """One prompt or several, as text or as token ids, and how to continue them."""

    prompt: Prompt
    logprobs: int | None = Field(default=None, ge=0, le=limits.MAX_LOGPROBS)

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts as a list, each a text or a list of token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs
