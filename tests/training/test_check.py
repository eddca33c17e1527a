"""What is known of a run before it runs: everything is looked at, and said."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from clients.cli import app
from training.check import Finding, adapter_config, check, print_check
from training.licences import licence_of
from training.reading import read_recipe
from training.schema import SCHEMA_FILE, schema, schema_text

RECIPES = sorted(Path("training/recipes").glob("*.yaml"))


def verdicts(path: Path, *overrides: str) -> dict[str, Finding]:
    return {finding.about: finding for finding in check(read_recipe(path, overrides))}


def test_a_good_recipe_is_good_in_all_points(write_recipe: Any) -> None:
    found = verdicts(write_recipe())
    assert {about: finding.verdict for about, finding in found.items()} == {
        "data": "good",
        "base": "good",
        "licence": "mind",  # the tiny base says nothing
        "served": "good",
        "lengths": "good",
        "output": "good",
    }
    assert found["data"].text == "10 rows to train on, 2 rows to validate, 2 rows held out"
    assert "rank 4 on q_proj, k_proj" in found["served"].text


@pytest.mark.parametrize(
    ("override", "about", "text"),
    [
        ("data.train=[none.jsonl]", "data", "no such file"),
        ("base=nobody/nothing", "base", "no base 'nobody/nothing'"),
        ("lora.target_modules=[lm_head]", "served", "cannot be hot-loaded"),
        ("lora.target_modules=[query]", "served", "matches no projection"),
        ("train.max_length=8", "lengths", "more than `train.max_length` 8"),
        ("hat.chat_template='{{ raise_exception(1) }}'", "lengths", "train.jsonl:1"),
        ("output=.", "output", "something else"),
    ],
)
def test_what_is_wrong_is_found(write_recipe: Any, override: str, about: str, text: str) -> None:
    found = verdicts(write_recipe(), override)
    assert found[about].verdict == "bad"
    assert text in found[about].text


def test_dora_and_full_are_served_as_the_nearest_adapter(write_recipe: Any) -> None:
    path = write_recipe()
    assert "rank 8" in (dora := verdicts(path, "lora.dora=true")["served"].text)
    assert "nearest to DoRA" in dora
    full = verdicts(path, "method=full", "load.quantization=none")["served"].text
    assert "nearest to the full fine-tune" in full


def test_what_is_foreseen_is_what_is_saved(write_recipe: Any, tmp_path: Path) -> None:
    from training.commands import train

    path = write_recipe(
        lora={"rank_pattern": {"q_proj": 2}}, train={"max_steps": 1}, evaluate={"rows": 0}
    )
    train(path, console=Console(file=io.StringIO()))
    saved = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    foreseen = adapter_config(read_recipe(path))
    modules = foreseen.pop("target_modules")
    assert modules == "all-linear"
    assert {key: saved[key] for key in foreseen} == foreseen


def test_the_check_is_printed_and_fails(write_recipe: Any) -> None:
    runner = CliRunner()
    path = str(write_recipe())
    good = runner.invoke(app, ["train", path, "--check"])
    assert good.exit_code == 0, good.output
    assert "✓ data 10 rows to train on" in good.output
    bad = runner.invoke(app, ["train", path, "--check", "--set", "base=nobody"])
    assert bad.exit_code == 1
    assert "✗ base no base 'nobody'" in bad.output


def test_spellings_are_said(write_recipe: Any) -> None:
    console = Console(file=io.StringIO(), width=200)
    assert print_check(read_recipe(write_recipe(), ["lora_r=4"]), console)
    assert isinstance(console.file, io.StringIO)
    assert "`lora_r` is read as `lora.r`" in console.file.getvalue()


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"README.md": "---\nlicense: Apache-2.0\n---\n# x"}, "apache-2.0"),
        ({"README.md": "# x\nlicense: mit", "LICENSE": "MIT License\n"}, "mit"),
        ({"LICENSE.txt": "Apache License\nVersion 2.0, January 2004"}, "apache-2.0"),
        ({"README.md": "---\n: [\n---\n"}, None),
        ({}, None),
    ],
)
def test_a_licence_is_read_from_card_or_file(
    tmp_path: Path, files: dict[str, str], licence: str | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert licence_of(tmp_path) == licence
    assert licence_of(tmp_path, "smollm2-135m") == "apache-2.0"


def test_the_schema_that_lies_beside_the_recipes_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text()
    printed = CliRunner().invoke(app, ["train", "--schema"])
    assert json.loads(printed.output) == schema()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_our_spelling_fit_the_schema(path: Path) -> None:
    import jsonschema

    from training.located import read_yaml

    tree = read_yaml(path).tree
    names_schema = "$schema=recipe.schema.json" in path.read_text()
    errors = list(jsonschema.Draft202012Validator(schema()).iter_errors(tree))
    assert (not errors) == names_schema
    wrong = {**tree, "lora": {"rank": 3}}
    assert not jsonschema.Draft202012Validator(schema()).is_valid(wrong)
