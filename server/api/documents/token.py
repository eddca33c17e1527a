"""The answers of POST /tokenize and /detokenize."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


class Tokens(TypedDict):
    """Token ids, and their texts where they were asked for."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: NotRequired[list[str]]


class TokenText(TypedDict):
    """The text of token ids."""

    prompt: str
