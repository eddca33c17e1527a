"""The body of POST /v1/completions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from server.errors import InvalidRequest

from . import limits
from .only import Only
from .parameters import Parameters, TokenId, by_shape

TokenPrompt = Annotated[list[TokenId], Field(min_length=1)]
Prompt = Annotated[
    Annotated[str, Field(min_length=1), Tag("<text>")]
    | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), Tag("<list>")]
    | Annotated[TokenPrompt, Tag("<tokens>")]
    | Annotated[list[TokenPrompt], Field(min_length=1), Tag("<token lists>")],
    Discriminator(by_shape),
]


def prompt_list(prompt: Prompt) -> list[str] | list[list[int]]:
    """One prompt or several as a list, each a text or a list of token ids."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [prompt]
    return prompt


class CompletionBody(Parameters):
    """One prompt or several, as text or as token ids, and how to continue them."""

    prompt: Prompt
    max_tokens: int | None = Field(default=None, ge=0)
    logprobs: int | None = Field(default=None, ge=0, le=limits.MAX_LOGPROBS)
    best_of: int | None = Field(default=None, ge=1, le=limits.MAX_CHOICES)
    echo: bool | None = None

    # Known elsewhere, not carried out here.
    suffix: Annotated[Any, Only("")] = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts as a list, each a text or a list of token ids."""
        return prompt_list(self.prompt)

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def num_candidates(self) -> int:
        return self.num_choices if self.best_of is None else self.best_of

    @property
    def is_echoed(self) -> bool:
        return bool(self.echo)

    def check(self) -> None:
        super().check()
        if self.num_candidates < self.num_choices:
            raise InvalidRequest(
                f"'best_of' is {self.best_of}, fewer than the {self.n} that 'n' asks for.",
                param="best_of",
            )
        if self.num_candidates > self.num_choices and self.stream:
            raise InvalidRequest(
                "'best_of' over 'n' excludes 'stream': the best are known at the end only.",
                param="best_of",
            )
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest(
                "'max_tokens': 0 only means something with 'echo': true.", param="max_tokens"
            )
