"""Perplexity by quantization level, on the embedded default as on any base."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from training.errors import BaseError
from training.evaluating.perplexity import LevelTable, measure_levels


@pytest.fixture(scope="module")
def found(embedded_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LevelTable, Path]:
    folder = tmp_path_factory.mktemp("levels")
    text = folder / "text.txt"
    text.write_text("The heart is a muscle about the size of a fist. It beats when we rest.")
    table = measure_levels(
        str(embedded_base),
        text=text,
        plot=folder / "levels.png",
        json_file=folder / "levels.json",
        console=Console(file=io.StringIO()),
    )
    return table, folder


def test_bits_are_those_of_the_seeds(found: tuple[LevelTable, Path]) -> None:
    """Blocks of 64: a 32-bit constant adds 0.5 bits a weight, quantized itself 0.127 (seed 002)."""
    bits = {level.name: level.bits for level in found[0].levels}
    assert bits["bf16"] == 16
    assert bits["int8"] == pytest.approx(8.05, abs=0.02)
    assert bits["nf4"] == pytest.approx(4.5)
    assert bits["nf4-dq"] == pytest.approx(4.127, abs=5e-4)
    sizes = [level.num_bytes for level in found[0].levels]
    assert sizes == sorted(sizes, reverse=True)


def test_eight_bits_cost_little_and_four_not_much_more(found: tuple[LevelTable, Path]) -> None:
    bf16, int8, nf4, double = (level.likelihood.loss for level in found[0].levels)
    assert abs(int8 - bf16) < abs(nf4 - bf16)
    assert nf4 - bf16 < 0.5
    assert double == pytest.approx(nf4, abs=0.1)


def test_figures_and_plot_are_written(found: tuple[LevelTable, Path]) -> None:
    table, folder = found
    assert (folder / "levels.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((folder / "levels.json").read_text())
    assert [level["bytes"] for level in written["levels"]] == [
        level.num_bytes for level in table.levels
    ]


def test_no_such_base() -> None:
    with pytest.raises(BaseError, match="no base 'nowhere'"):
        measure_levels("nowhere")
