"""`hatstand plan` prints what a server would do."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from server.engine.planner import GIB
from server.errors import StartupError
from server.planning import print_plan
from tests.support.tiny import write_tiny_base

LIMITS = {"adapters": 4, "rank": 8, "context": 100, "shadow": False}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_base(tmp_path_factory.mktemp("base") / "base"))


def test_it_names_every_part(base: str) -> None:
    out = io.StringIO()
    made = print_plan(base, gpu_memory=2 * GIB, console=Console(file=out, width=100), **LIMITS)
    for text in ("weights", "4 adapters of rank 8", "KV cache", f"{made.kv_tokens:,}"):
        assert text in out.getvalue()
    assert f"{made.kv_tokens // 100:,}" in out.getvalue()


def test_what_does_not_fit_is_an_error(base: str) -> None:
    with pytest.raises(StartupError, match="nothing is left"):
        print_plan(base, gpu_memory=GIB // 4, **LIMITS)
    with pytest.raises(StartupError, match="nowhere"):
        print_plan("nowhere", gpu_memory=GIB, **LIMITS)
