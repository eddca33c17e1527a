"""Which variant of a union a value means, so that an error speaks of that one.

Tags stand in angle brackets, which is how `bodies.parameter_name` knows to leave them out.
"""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def text_or_list(value: Any) -> str:
    """For fields that take a text, or a list of parts."""
    return "<list>" if isinstance(value, list) else "<text>"


def one_of(*words: str) -> BeforeValidator:
    """For the field by which variants are told apart, in the one that unknown words lead to.

    It has some of the words; whoever mistypes one is told of all.
    """

    def check(word: Any) -> Any:
        if word not in words:
            raise PydanticCustomError("word", f"must be one of {', '.join(map(repr, words))}")
        return word

    return BeforeValidator(check)
