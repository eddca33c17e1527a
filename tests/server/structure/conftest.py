"""A tiny random base, and what makes grammars for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.bases import open_base
from server.structure import GrammarCompiler
from tests.support.tiny import write_tiny_base


@pytest.fixture(scope="session")
def shaped_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads wide enough for the compiled kernels."""
    return write_tiny_base(tmp_path_factory.mktemp("shaped") / "base", head_dim=32)


@pytest.fixture(scope="session")
def compiler(shaped_base: Path) -> Iterator[GrammarCompiler]:
    base = open_base(str(shaped_base))
    compiler = GrammarCompiler(base.tokenizer, base.config.vocab_size)
    yield compiler
    compiler.close()
