"""Rendered text stays as it is; plain text gets what the tokenizer itself puts around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import processors
from transformers import AutoTokenizer

from server.engine.tokenizer import BaseTokenizer
from tests.support.tiny import write_tokenizer

BOS, EOS = 256, 257
TEXT = "ab"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A tokenizer that adds nothing, like SmolLM2's."""
    write_tokenizer(tmp_path)
    return tmp_path


@pytest.fixture
def with_bos(plain: Path) -> Path:
    """One whose post-processor begins text with a BOS, like Mistral's."""
    tokenizer = AutoTokenizer.from_pretrained(plain)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    tokenizer.save_pretrained(plain)
    return plain


def test_a_tokenizer_that_adds_nothing_is_left_to_it(plain: Path) -> None:
    tokenizer = BaseTokenizer(plain)
    assert tokenizer.encode_plain(TEXT) == tokenizer.encode(TEXT)
    assert len(tokenizer.encode(TEXT)) == 2


def test_plain_text_begins_with_bos_where_the_tokenizer_says_so(with_bos: Path) -> None:
    tokenizer = BaseTokenizer(with_bos)
    assert tokenizer.encode_plain(TEXT) == [BOS, *tokenizer.encode(TEXT)]
    assert tokenizer.encode_plain(TEXT) == AutoTokenizer.from_pretrained(with_bos)(TEXT).input_ids


def test_a_rendered_bos_is_not_doubled(with_bos: Path) -> None:
    tokenizer = BaseTokenizer(with_bos)
    assert tokenizer.encode(f"<s>{TEXT}</s>") == [BOS, *tokenizer.encode(TEXT), EOS]


def test_tokens_read_as_transformers_reads_them(plain: Path) -> None:
    tokenizer, theirs = BaseTokenizer(plain), AutoTokenizer.from_pretrained(plain)
    for ids in ([], [BOS], [*theirs.encode("a  b é"), EOS], theirs.encode("é")[:-1]):
        expected = theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert tokenizer.decode(ids) == expected
