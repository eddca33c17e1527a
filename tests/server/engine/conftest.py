"""A tiny base and four adapters of different ranks and kinds, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny import TinyAdapter, write_tiny_base

ADAPTERS = (
    TinyAdapter("a", rank=4, alpha=8),
    TinyAdapter("b", rank=2, alpha=2, targets=("q_proj", "v_proj"), seed=1),
    TinyAdapter("c", rank=16, alpha=16, seed=2, extra={"use_rslora": True}),
    TinyAdapter(
        "d",
        rank=8,
        alpha=16,
        targets=("k_proj", "o_proj", "down_proj", "gate_proj"),
        seed=3,
        extra={"rank_pattern": {"o_proj": 3}, "alpha_pattern": {"gate_proj": 5}},
    ),
)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def tiny_adapters(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {a.name: a.write(tiny_base, folder / a.name) for a in ADAPTERS}
