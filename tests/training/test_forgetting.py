"""A recipe's `forgetting`: what the adapter costs, measured, written down and judged."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from registry import Registry
from training.check import check
from training.commands import Trained, train
from training.errors import DataError, ForgetsTooMuch
from training.reading import read_recipe
from training.reproduction import reproduce

TEXT = "quartz vow: jump, fjord! " * 8


def run(recipe: Path, *overrides: str) -> tuple[Trained, str]:
    console = Console(file=io.StringIO(), width=200)
    trained = train(recipe, ["evaluate.rows=0", *overrides], console=console)
    assert isinstance(console.file, io.StringIO)
    return trained, console.file.getvalue()


@pytest.fixture
def recipe(write_recipe: Any, tmp_path: Path) -> Path:
    (tmp_path / "general.txt").write_text(TEXT)
    written: Path = write_recipe(forgetting={"data": "general.txt", "budget": 1e9})
    return written


def test_what_is_forgotten_is_measured_and_written_down(recipe: Path, tmp_path: Path) -> None:
    trained, printed = run(recipe)
    kept = trained.metrics.forgetting
    assert kept is not None
    assert kept.adapter.nats != kept.base.nats > 0
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert document["general_text"]["rise"] == document["forgetting"] == kept.rise
    assert document["general_text"]["base_perplexity"] == kept.base.perplexity
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| bare base | {kept.base.perplexity:.2f} |" in card
    assert "within the recipe's budget" in card
    assert str(kept) in printed
    lock = json.loads((tmp_path / "out" / "lock.json").read_text())
    assert lock["metrics"]["forgetting"] == pytest.approx(kept.rise)
    assert "general.txt" in lock["data"]


def test_the_base_is_measured_without_the_adapter(recipe: Path) -> None:
    """However long it trains, the base says the same."""
    short, long = run(recipe)[0].metrics, run(recipe, "train.max_steps=6")[0].metrics
    assert short.forgetting is not None
    assert long.forgetting is not None
    assert short.forgetting.base == long.forgetting.base
    assert short.forgetting.adapter != long.forgetting.adapter


def test_over_budget_is_a_warning_or_an_error(recipe: Path, tmp_path: Path) -> None:
    tight = ["forgetting.budget=0", "train.max_steps=12", "train.learning_rate=0.05"]
    _, printed = run(recipe, *tight)
    assert "! it forgets more than `forgetting.budget`" in printed
    assert "**over** the recipe's budget of 0%" in (tmp_path / "out" / "README.md").read_text()
    words = [*tight, "forgetting.over_budget=fail", "evaluate.rows=0", "description=again"]
    with pytest.raises(ForgetsTooMuch, match=r"out forgets more .* budget 0%"):
        train(recipe, words, "colors", tmp_path / "registry", console=Console(quiet=True))
    assert "again" in (tmp_path / "out" / "README.md").read_text()  # the folder stays
    assert Registry.open(tmp_path / "registry").adapters() == []


def test_without_a_file_it_reads_our_own_text(write_recipe: Any) -> None:
    assert read_recipe(write_recipe()).forgetting is None
    settings = read_recipe(write_recipe(), ["forgetting={}"]).forgetting
    assert settings is not None
    assert (settings.data, settings.budget, settings.over_budget) == (None, 0.2, "warn")


def test_a_file_that_is_not_there_is_named_before_training(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "general.txt").unlink()
    found = [f.text for f in check(read_recipe(recipe)) if f.about == "forgetting"]
    assert len(found) == 1
    assert "general.txt: cannot be read" in found[0]
    with pytest.raises(DataError, match=r"general\.txt"):
        run(recipe)


def test_it_is_measured_again_when_a_version_is_reproduced(
    recipe: Path, tmp_path: Path, tiny_base: Path, hatstand_home: Path
) -> None:
    (hatstand_home / "bases").mkdir(parents=True)
    (hatstand_home / "bases" / "tiny").symlink_to(tiny_base)
    train(recipe, ["evaluate.rows=0"], "colors", console=Console(quiet=True))
    again = reproduce(
        "colors", data=tmp_path, output=tmp_path / "again", console=Console(quiet=True)
    )
    assert (again.is_same, again.metrics) == (True, ())
    (tmp_path / "general.txt").write_text(TEXT * 2)
    with pytest.raises(DataError, match=r"general\.txt: has changed"):
        reproduce("colors", data=tmp_path, output=tmp_path / "b", console=Console(quiet=True))
