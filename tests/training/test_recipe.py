"""A recipe that is not right says where, what and what would be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from training.errors import RecipeError
from training.reading import read_recipe
from training.recipe import Recipe

ROOT = Path(__file__).parents[2]
GOOD = """\
base: smollm2-135m
output: out
data:
  train: rows.jsonl
train:
  learning_rate: 1e-3
"""


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, overrides)
    return [problem.replace(str(path), "recipe.yaml") for problem in caught.value.problems]


def read(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path, overrides)


def test_the_manuals_first_recipe_is_one(tmp_path: Path) -> None:
    manual = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    text = manual.partition("## A first one")[2].partition("```yaml\n")[2].partition("```")[0]
    recipe = read(tmp_path, text)
    assert (recipe.base, recipe.hat.sampling.max_tokens) == ("smollm2-135m", 8)
    assert recipe.data.heldout == (tmp_path / "support-test.jsonl",)


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = read(tmp_path, GOOD)
    assert recipe.output == tmp_path / "out"
    assert recipe.data.train == (tmp_path / "rows.jsonl",)


def test_an_exponent_without_a_point_is_a_number(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).train.learning_rate == 1e-3


def test_no_is_a_word_and_not_false(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD + "hat: {stop: [no, off]}\n").hat.stop == ("no", "off")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "train:\n  learning_rat: 1\n",
            "recipe.yaml:7: `train.learning_rat`: unknown key; did you mean `train.learning_rate`?",
        ),
        (
            "learning_rat: 1\n",
            "recipe.yaml:6: `learning_rat`: unknown key; did you mean `train.learning_rate`?",
        ),
        (
            "lora: {rank: 4}\n",
            "recipe.yaml:6: `lora.rank`: unknown key; known here: r, alpha, dropout, "
            "target_modules, rslora, rank_pattern, alpha_pattern, init, dora, extract_rank",
        ),
        (
            "train:\n  epochs: three\n",
            "recipe.yaml:7: `train.epochs`: expected a number, got 'three'",
        ),
        (
            'train:\n  batch_size: "8"\n',
            "recipe.yaml:7: `train.batch_size`: expected a whole number, got '8'",
        ),
        (
            "lora: {target_modules: 5}\n",
            "recipe.yaml:6: `lora.target_modules`: expected 'all-linear' or expected a list, got 5",
        ),
        (
            "train: {scheduler: cosin}\n",
            "recipe.yaml:6: `train.scheduler`: expected 'linear', 'cosine', 'constant', "
            "'constant_with_warmup', 'polynomial' or 'warmup_decay', got 'cosin'",
        ),
        (
            "hat: {sampling: {temprature: 0}}\n",
            "recipe.yaml:6: `hat.sampling.temprature`: unknown key; "
            "did you mean `hat.sampling.temperature`?",
        ),
        (
            "hat: {sampling: {temperature: 3}}\n",
            "recipe.yaml:6: `hat.sampling`: the hat's sampling.temperature is 3, and no request "
            "may ask for more than 2: set it to 2 or less",
        ),
        (
            "hat: {stop: [" + "a, " * 17 + "]}\n",
            "recipe.yaml:6: `hat.stop`: Tuple should have at most 16 items after validation",
        ),
        (
            "hat: {chat_template: '{% for %}'}\n",
            "recipe.yaml:6: the chat template does not compile: line 1: "
            "Expected an expression, got 'end of statement block'",
        ),
        ("hat: {chat_template: a, chat_template_file: b}\n", "not both"),
        ("base: again\n", "recipe.yaml:6: the key `base` is written twice"),
        ("lora: [r\n", "not valid YAML"),
        ("lora: {r: " + "9" * 5_000 + "}\n", "recipe.yaml:6: `lora.r`: expected a whole number"),
        ("lora: " + "[" * 5_000 + "\n", "recipe.yaml: a value is nested too deeply, or in itself"),
        ("lora: &itself [*itself]\n", "a value is nested too deeply, or in itself"),
        ("train: {seed: -1}\n", "`train.seed`: expected greater than or equal to 0, got -1"),
        ("train: {seed: 4294967296}\n", "`train.seed`: expected less than 4294967296"),
    ],
)
def test_a_wrong_key_or_type_is_named_with_its_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert expected in "\n".join(problems(tmp_path, GOOD.split("train:\n  learn")[0] + "\n" + text))


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "base: 3\noutput: out\nlora: {r: 0}\n")
    assert found == [
        "recipe.yaml:1: `base`: expected text, got 3",
        "recipe.yaml: `data`: this key is missing",
        "recipe.yaml:3: `lora.r`: expected greater than or equal to 1, got 0",
    ]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.yaml: no such file"):
        read_recipe(tmp_path / "nothing.yaml")


def test_set_wins_over_the_file_and_reads_yaml(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        GOOD,
        "train.learning_rate=5e-4",
        "lora.target_modules=[q_proj,v_proj]",
        "lora.rank_pattern.q_proj=2",
        "data.train=[a.jsonl, b.csv]",
    )
    assert recipe.train.learning_rate == 5e-4
    assert recipe.lora.target_modules == ("q_proj", "v_proj")
    assert recipe.lora.rank_pattern == {"q_proj": 2}
    assert [path.name for path in recipe.data.train] == ["a.jsonl", "b.csv"]


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.epoch=1", "--set train.epoch=1: `train.epoch`: unknown key; did you mean"),
        ("train.epochs=x", "--set train.epochs=x: `train.epochs`: expected a number, got 'x'"),
        ("train.epochs", "--set train.epochs: expected key=value"),
        ("base.x=1", "--set base.x=1: `base` is not a section"),
    ],
)
def test_a_wrong_set_is_named(tmp_path: Path, assignment: str, expected: str) -> None:
    assert problems(tmp_path, GOOD, assignment)[0].startswith(expected)


def test_a_template_file_is_read_into_the_hat(tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{{ messages[0].content }}")
    recipe = read(tmp_path, GOOD + "hat: {chat_template_file: chat.jinja}\n")
    assert recipe.hat.hat().chat_template == "{{ messages[0].content }}"


@pytest.mark.parametrize("path", sorted(Path("training/recipes").glob("*.yaml")), ids=str)
def test_ready_recipes_are_right(path: Path) -> None:
    assert read_recipe(path).base


def test_recipes_and_rows_are_checked_without_torch() -> None:
    code = (
        "import sys, training.commands; "
        "assert not {'torch', 'transformers', 'peft', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_recipe_extends_a_default_and_another_recipe(tmp_path: Path) -> None:
    (tmp_path / "family").mkdir()
    parent = tmp_path / "family" / "parent.yaml"
    parent.write_text(f"extends: qlora\n{GOOD}lora: {{alpha: 5}}\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: family/parent.yaml\noutput: mine\ntrain: {epochs: 7}\n")
    recipe = read_recipe(child, ["lora.r=3"])
    assert recipe.train.optimizer == "paged_adamw_8bit"  # the default's
    assert recipe.train.learning_rate == 1e-3  # the parent's, which wins over the default's
    assert recipe.train.epochs == 7
    assert (recipe.lora.r, recipe.lora.alpha) == (3, 5)
    assert recipe.output == tmp_path / "mine"
    assert recipe.data.train == (tmp_path / "family" / "rows.jsonl",)


def test_an_error_in_a_parent_names_the_parent_s_line(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text("lora:\n  r: many\n")
    found = problems(tmp_path, f"extends: parent.yaml\n{GOOD}")
    assert found == [f"{tmp_path}/parent.yaml:2: `lora.r`: expected a whole number, got 'many'"]


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("recipe.yaml", "recipe.yaml:1: `extends`: recipe.yaml extends this recipe in turn"),
        ("none.yaml", "neither one of full, lora, qlora nor a recipe's path"),
        ("[a]", "expected one of full, lora, qlora"),
    ],
)
def test_a_parent_that_is_none_is_named(tmp_path: Path, extends: str, message: str) -> None:
    assert message in problems(tmp_path, f"extends: {extends}\n{GOOD}")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: full\n", "load.quantization: none"),
        ("load: {quantization: gptq}\n", "serve_on"),
        ("lora: {dora: true, init: pissa}\n", "do not go together"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in problems(tmp_path, GOOD + text)[0]


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("lora: {r: 4}\n", 4),
        ("lora: {r: 4, init: pissa}\n", 8),
        ("lora: {r: 4, dora: true}\n", 8),
        ("lora: {r: 4, dora: true, extract_rank: 5}\n", 5),
        ("method: full\nload: {quantization: none}\nlora: {r: 4}\n", 4),
    ],
)
def test_the_rank_that_is_saved(tmp_path: Path, text: str, rank: int) -> None:
    assert read(tmp_path, GOOD + text).saved_rank == rank
