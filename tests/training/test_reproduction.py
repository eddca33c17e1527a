"""A version trained again is the same version, and what is not the same is named."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from clients.cli import app
from registry import Registry
from tests.training.conftest import write_rows
from training import reproduction
from training.commands import train
from training.errors import BaseError, DataError, RecipeError
from training.reproduction import reproduce


@pytest.fixture
def made(write_recipe: Any, tmp_path: Path, tiny_base: Path, hatstand_home: Path) -> Path:
    """`colors@1` in the default registry, its base pulled, its files in the folder returned."""
    (hatstand_home / "bases").mkdir(parents=True)
    (hatstand_home / "bases" / "tiny").symlink_to(tiny_base)
    train(write_recipe(), (), "colors", console=Console(quiet=True))
    return tmp_path


def test_the_same_bits_come_out(made: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    found = reproduce("colors", data=made, output=made / "again", console=console)
    assert found.is_same
    assert (found.environment, found.metrics) == ((), ())
    assert isinstance(console.file, io.StringIO)
    assert "all 28 tensors are equal, bit for bit" in console.file.getvalue()


def test_the_command_says_what_differs(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = reproduction._recipe

    def other_seed(*args: Any, **options: Any) -> Any:
        recipe = original(*args, **options)
        return recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": 9})})

    monkeypatch.setattr(reproduction, "_recipe", other_seed)
    monkeypatch.setattr(reproduction, "environment", lambda: {"torch": "0.1"})
    result = CliRunner().invoke(app, ["train", "--reproduce", "colors@1", "--data", str(made)])
    assert result.exit_code == 1
    assert "28 of 28 tensors differ" in result.output
    assert "metrics: train_loss:" in result.output
    assert "environment: torch: 2" in result.output
    assert "of its length away" in result.output


@pytest.mark.parametrize(
    "more", [["--set", "train.seed=9"], ["--push", "colors"], ["--resume"], ["r.yaml"]]
)
def test_a_version_is_not_trained_again_otherwise(more: list[str]) -> None:
    result = CliRunner().invoke(app, ["train", "--reproduce", "colors@1", *more])
    assert result.exit_code == 1
    assert "trains a version as it was" in result.output


def test_rows_that_changed_or_went_are_named(made: Path) -> None:
    write_rows(made / "train.jsonl", [(f"color {n}?", "blue") for n in range(12)])
    (made / "heldout.jsonl").unlink()
    with pytest.raises(DataError) as caught:
        reproduce("colors", data=made, output=made / "again", console=Console(quiet=True))
    assert [problem.rpartition("/")[2] for problem in caught.value.problems] == [
        "train.jsonl: has changed since the version was trained",
        "heldout.jsonl: no such file; name the folder of the data with --data",
    ]


def test_another_base_is_no_base(made: Path, hatstand_home: Path, embedded_base: Path) -> None:
    (hatstand_home / "bases" / "tiny").unlink()
    (hatstand_home / "bases" / "tiny").symlink_to(embedded_base)
    with pytest.raises(BaseError, match="is not the base of then"):
        reproduce("colors", data=made, output=made / "again", console=Console(quiet=True))


def test_a_recipe_with_keys_of_another_time(made: Path, tiny_base: Path) -> None:
    registry = Registry.open(made / "home" / "registry")
    lock = registry.lock(registry.resolve("colors"))
    strange = lock.model_copy(update={"recipe": {**lock.recipe, "magic": True}})
    with pytest.raises(RecipeError, match="`magic` of the version's recipe"):
        reproduction._recipe(strange, tiny_base, data=made, output=made / "again")
    with pytest.raises(RecipeError, match="came without a recipe"):
        reproduction._recipe(
            lock.model_copy(update={"recipe": {}}), tiny_base, data=made, output=made / "again"
        )
