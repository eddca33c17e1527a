"""Plain text as samples: what perplexity and forgetting are measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import DataError
from training.rendering import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW = 512  # tokens that are read together


def read_text(path: Path | None) -> str:
    """The text of a file, or the general one that comes along. Raises `DataError`."""
    if path is None:
        return resources.files(__package__).joinpath("general.txt").read_text(encoding="utf-8")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([f"{path}: cannot be read: {error}"]) from error
    if not text.strip():
        raise DataError([f"{path}: holds no text"])
    return text


@dataclass(frozen=True)
class Window:
    """A piece of text; its first token is given, all others are to be predicted."""

    input_ids: tuple[int, ...]

    @property
    def labels(self) -> tuple[int, ...]:
        return (IGNORED, *self.input_ids[1:])


def windows(
    text: str, tokenizer: PreTrainedTokenizerBase, *, length: int = WINDOW
) -> tuple[Window, ...]:
    """The text in pieces of at most `length` tokens, none of them twice.

    Each piece begins with BOS, or its own first token where there is none. A last piece of one
    token is left out.
    """
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    bos = tokenizer.bos_token_id
    head = () if bos is None else (int(bos),)
    return tuple(Window(piece) for piece in _pieces(tuple(token_ids), head, length))


def _pieces(
    token_ids: tuple[int, ...], head: tuple[int, ...], length: int
) -> Iterator[tuple[int, ...]]:
    step = length - len(head)
    for start in range(0, len(token_ids), step):
        piece = head + token_ids[start : start + step]
        if len(piece) > 1:
            yield piece
