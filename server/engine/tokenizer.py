"""The base's tokenizer, as the server uses it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any


class BaseTokenizer:
    """Text to ids and back, exactly as the checkpoint's own tokenizer files say."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._folder = folder
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        wrapped = partial(self._tokenizer.decode, clean_up_tokenization_spaces=False)
        self._decode = wrapped if backend is None else backend.decode

    def encode(self, text: str) -> list[int]:
        """Ids of rendered text: templates write special tokens themselves, so none is added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def encode_plain(self, text: str) -> list[int]:
        """Ids of text that no template rendered, with what the tokenizer itself puts around it.

        For a Mistral that is a BOS before it, as in `transformers`' own `tokenizer(text)`.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=True)
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`, special tokens left out.

        Asked twice for every token that is generated, so past what transformers wraps around it.
        """
        text: str = self._decode(list(token_ids), skip_special_tokens=True)
        return text

    def decode_all(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`, special tokens included."""
        text: str = self._tokenizer.decode(list(token_ids), clean_up_tokenization_spaces=False)
        return text

    def special_token_id(self, word: str) -> int | None:
        """The id of a special token by its text; None if there is none."""
        token_id = self._tokenizer.get_added_vocab().get(word)
        if token_id is None or not self._tokenizer.added_tokens_decoder[token_id].special:
            return None
        return int(token_id)

    def verbatim(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`, special tokens included."""
        text: str = self._decode(list(token_ids), skip_special_tokens=False)
        return text

    def token_text(self, token_id: int) -> str:
        """One token's own text, special tokens included."""
        text: str = self._tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
        return text

    def serialized(self) -> str:
        """The text of a tokenizer.json, added tokens included."""
        text: str = self._tokenizer.backend_tokenizer.to_str()
        return text

    @property
    def chat_template(self) -> str | None:
        template: str | None = self._tokenizer.chat_template
        return template

    @property
    def bos_token(self) -> str:
        return self._tokenizer.bos_token or ""

    @property
    def eos_token(self) -> str:
        return self._tokenizer.eos_token or ""

    @property
    def vocab_size(self) -> int:
        return len(self._tokenizer)

    @cached_property
    def eos_token_ids(self) -> frozenset[int]:
        """Every id that ends a sequence: the tokenizer's, and generation_config.json's."""
        ids = {self._tokenizer.eos_token_id}
        path = self._folder / "generation_config.json"
        if path.is_file():
            stated = json.loads(path.read_text()).get("eos_token_id")
            ids |= set(stated) if isinstance(stated, list) else {stated}
        return frozenset(token_id for token_id in ids if token_id is not None)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of tokenizer.json."""
        return hashlib.sha256((self._folder / "tokenizer.json").read_bytes()).hexdigest()
