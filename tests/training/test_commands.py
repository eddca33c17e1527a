"""`hatstand train` from a recipe to a version in a registry, for real on a tiny base."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file, save_file

from registry import Registry
from registry.bases import read_base
from registry.hats import Hat
from registry.lock import Lock
from training.commands import Trained, train
from training.errors import (
    BaseError,
    DataError,
    MissingExtra,
    OutputError,
    PushError,
    RecipeError,
    TrainingDiverged,
)
from training.reading import read_recipe

FILES = {
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "hat.json",
    "lock.json",
    "lengths.png",
    "loss.png",
    "metrics.json",
    "receipt.json",
    "recipe.yaml",
}


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> tuple[Trained, Path, str]:
    """One run of 40 steps, pushed; the result, the registry's folder and what was printed."""
    from .conftest import write_rows

    folder = tmp_path_factory.mktemp("run")
    write_rows(folder / "train.jsonl", [(f"color {n}?", f"red {n}") for n in range(24)])
    write_rows(folder / "heldout.jsonl", [(f"color {n}?", f"red {n}") for n in (50, 60, 70)])
    recipe = {
        "base": str(tiny_base),
        "output": "out",
        "data": {"train": "train.jsonl", "heldout": "heldout.jsonl", "validation": 4},
        "hat": {
            "system_prompt": "Name the color.",
            "chat_template": "{% for m in messages %}{{ m.content }}\n{% endfor %}> ",
            "stop": ["\n\n"],
            "sampling": {"max_tokens": 8, "temperature": 0},
        },
        "lora": {"r": 4, "alpha": 8, "rank_pattern": {"q_proj": 2}},
        "train": {"max_steps": 40, "batch_size": 4, "learning_rate": 2e-2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    console = quiet()
    result = train(path, ["train.seed=7"], "colors@prod", folder / "registry", console=console)
    assert isinstance(console.file, io.StringIO)
    return result, folder / "registry", console.file.getvalue()


def test_the_loss_falls(trained: tuple[Trained, Path, str]) -> None:
    curves = trained[0].metrics.curves
    assert len(curves.train) == 40
    assert curves.train[-1][1] < 0.5 * curves.train[0][1]
    assert curves.validation[-1][1] < 0.5 * curves.validation[0][1]
    assert [step for step, _ in curves.validation] == [0, 10, 20, 30, 40]


def test_the_folder_is_complete(trained: tuple[Trained, Path, str]) -> None:
    folder = trained[0].folder
    assert {path.name for path in folder.iterdir()} == FILES | {"chat_template.jinja"}
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "| this adapter |" in (folder / "README.md").read_text()
    assert not list(folder.parent.glob(".out.*"))


def test_the_weights_are_bfloat16_and_the_configuration_names_the_base(
    trained: tuple[Trained, Path, str], tiny_base: Path
) -> None:
    folder = trained[0].folder
    tensors = load_file(folder / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape[0] == 2
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == read_base(tiny_base).source
    assert "revision" in config
    assert config["rank_pattern"] == {"q_proj": 2}
    assert config["target_modules"] == sorted(config["target_modules"])


def test_the_push_made_a_version_under_its_alias(trained: tuple[Trained, Path, str]) -> None:
    result, registry, output = trained
    assert result.version is not None
    assert result.version.ref == "colors@1"
    found = Registry.open(registry).resolve("colors@prod")
    assert found.digest == result.version.digest
    assert "pushed as colors@1" in output
    assert "step 40/40" in output


def test_lock_and_hat_pin_what_was_trained(
    trained: tuple[Trained, Path, str], tiny_base: Path
) -> None:
    result, registry, _ = trained
    lock, hat = Lock.read(result.folder), Hat.read(result.folder)
    assert lock is not None
    assert lock.base == read_base(tiny_base)
    assert (lock.rank, lock.adapter_dtype) == (4, "bfloat16")
    assert lock.template_sha256 == hat.template_sha256
    assert hat.stop == ("\n\n",)
    assert set(lock.data) == {"train.jsonl", "heldout.jsonl"}
    assert lock.environment.keys() >= {"python", "torch", "transformers", "peft", "bitsandbytes"}
    assert lock.metrics["exact_match"] == result.metrics.numbers["exact_match"]
    # No paths: the same run elsewhere must lock equally.
    assert str(tiny_base.parent) not in lock.to_bytes().decode()
    assert str(result.folder.parent) not in (result.folder / "recipe.yaml").read_text()
    assert Registry.open(registry).resolve("colors").digest == result.version.digest


def test_the_golden_prompt_renders_to_its_ids(
    trained: tuple[Trained, Path, str], tiny_base: Path
) -> None:
    from transformers import AutoTokenizer

    from training.rendering import Renderer

    lock = Lock.read(trained[0].folder)
    assert lock is not None
    [golden] = lock.golden
    renderer = Renderer(AutoTokenizer.from_pretrained(tiny_base), Hat.read(trained[0].folder))
    assert renderer.prompt_ids(golden.messages) == list(golden.token_ids)
    assert renderer.prompt_text(golden.messages) == "Name the color.\ncolor 50?\n> "


def test_the_resolved_recipe_can_be_read_again(trained: tuple[Trained, Path, str]) -> None:
    again = read_recipe(trained[0].folder / "recipe.yaml")
    assert again.train.seed == 7
    assert again.hat.hat() == Hat.read(trained[0].folder)


def test_the_receipt_reproduces(trained: tuple[Trained, Path, str], tiny_base: Path) -> None:
    """A fresh NF4 base with the saved adapter answers token for token as the receipt says."""
    from peft import PeftModel
    from transformers import AutoTokenizer

    from training.generation import Generator
    from training.model import load_base, quiet
    from training.receipt import MAX_TOKENS, TOP_K

    folder = trained[0].folder
    receipt = json.loads((folder / "receipt.json").read_text())
    with quiet():
        model = PeftModel.from_pretrained(
            load_base(tiny_base),
            str(folder),
            autocast_adapter_dtype=False,
        ).eval()
    generator = Generator(model, AutoTokenizer.from_pretrained(tiny_base), (), MAX_TOKENS, 1)
    assert len(receipt["probes"]) == 2
    for probe in receipt["probes"]:
        token_ids, logits = generator.trace(probe["prompt_token_ids"])
        assert token_ids == probe["token_ids"]
        top = logits.topk(TOP_K)
        assert top.indices.tolist() == probe["top_token_ids"]
        expected = torch.tensor(probe["top_logits"])
        torch.testing.assert_close(top.values, expected, rtol=0, atol=1e-3)


def test_the_receipt_is_kept_when_served(
    trained: tuple[Trained, Path, str], tiny_base: Path, tmp_path: Path
) -> None:
    """From training over the registry to the engine; another adapter's receipt is broken there."""
    from registry.errors import ReceiptMismatch
    from registry.replay import replay
    from server.proof.opening import open_host

    registry = Registry.open(trained[1])
    version = registry.resolve("colors")
    other = tmp_path / "other"
    registry.pull(version.ref, other)
    weights = load_file(other / "adapter_model.safetensors")
    save_file({name: -each for name, each in weights.items()}, other / "adapter_model.safetensors")
    negated = registry.push(other, "negated")
    with open_host(registry, str(tiny_base)) as host:
        proof = replay(registry, version, host)
        assert proof.num_probes == 2
        assert proof.drift < 0.5
        config = json.loads((other / "adapter_config.json").read_text())
        config["lora_alpha"] = -8
        (other / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(ReceiptMismatch, match="probe 1, token"):
            replay(registry, registry.push(other, "turned"), host)
        replay(registry, negated, host)  # (-B)(-A) is B A


def test_metrics_say_how_they_were_measured(trained: tuple[Trained, Path, str]) -> None:
    metrics = json.loads((trained[0].folder / "metrics.json").read_text())
    assert "bare base under this adapter's own hat" in metrics["exact_match_how"]
    assert len(metrics["heldout"]) == 3
    assert metrics["heldout"][0].keys() == {"question", "wanted", "before", "after", "right"}
    assert metrics["train_rows"] == 20
    assert metrics["seconds"].keys() >= {"load", "before", "train", "after", "receipt"}


def test_the_same_recipe_gives_the_same_weights(write_recipe: Any, tmp_path: Path) -> None:
    path = write_recipe()
    weights = []
    for _ in range(2):
        train(path, console=quiet())
        weights.append((tmp_path / "out" / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_without_heldout_rows_validation_is_asked(write_recipe: Any, tmp_path: Path) -> None:
    path = write_recipe(data={"heldout": []})
    assert train(path, console=quiet()).metrics.numbers["heldout_rows"] == 2
    result = train(path, ["data.validation=null", "train.max_steps=1"], console=quiet())
    assert "exact_match" not in result.metrics.numbers
    assert not result.metrics.curves.validation
    assert json.loads((tmp_path / "out" / "receipt.json").read_text())["probes"]


def test_a_checkpointed_run_trains(write_recipe: Any) -> None:
    recipe = write_recipe(train={"gradient_checkpointing": True, "gradient_accumulation": 2})
    losses = train(recipe, console=quiet()).metrics.curves.train
    assert losses[-1][1] < losses[0][1]


def test_a_cpu_without_bfloat16_trains_too(
    write_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: False)
    losses = train(write_recipe(), console=quiet()).metrics.curves.train
    assert losses[-1][1] < losses[0][1]
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert receipt["activations"] == "float32"


def test_a_run_that_diverges_leaves_nothing(write_recipe: Any, tmp_path: Path) -> None:
    path = write_recipe(train={"learning_rate": 1e30, "max_grad_norm": 0, "max_steps": 20})
    with pytest.raises(TrainingDiverged):
        train(path, console=quiet())
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out.*"))


def test_a_refused_push_keeps_the_folder(write_recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("not a folder")
    with pytest.raises(PushError, match="was not pushed"):
        train(write_recipe(), push_to="colors", registry=tmp_path / "registry", console=quiet())
    assert (tmp_path / "out" / "lock.json").is_file()


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        ({"base": "smollm2-135"}, {}, BaseError, "hatstand base pull"),
        ({}, {"push_to": "sql@3"}, RecipeError, "a push makes a new version"),
        ({}, {"push_to": "SQL!"}, RecipeError, "--push SQL!"),
        ({"data": {"train": "none.jsonl"}}, {}, DataError, "no such file"),
        ({"output": "."}, {}, OutputError, "something else"),
    ],
)
def test_what_is_wrong_is_said_before_anything_loads(
    write_recipe: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr("training.commands.prepare", lambda: pytest.fail("went on"))
    with pytest.raises(error, match=message):
        train(write_recipe(**change), console=quiet(), **arguments)


def test_a_missing_package_names_its_extra(
    write_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.foundation._PACKAGES", ("not_there_at_all",))
    with pytest.raises(MissingExtra, match=r"pip install 'hatstand\[training\]'"):
        train(write_recipe(), console=quiet())


def test_waiting_threads_leave_the_core_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from training.foundation import prepare

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    prepare()
    assert os.environ.pop("GOMP_SPINCOUNT") == "1000"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    prepare()
    assert "GOMP_SPINCOUNT" not in os.environ
