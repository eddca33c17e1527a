"""How many tokens a request took."""

from __future__ import annotations

from typing_extensions import TypedDict


class TokenDetails(TypedDict):
    """Of the prompt's tokens, those that the prefix cache had."""

    cached_tokens: int


class Usage(TypedDict):
    """OpenAI's usage object."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails
