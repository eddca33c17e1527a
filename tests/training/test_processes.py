"""One recipe in one process and in two: the same adapter, written once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from registry import Registry
from training.commands import train
from training.errors import RecipeError
from training.methods.adapter import Adapter
from training.processes import backend, count, is_first
from training.zero import configuration

ROOT = Path(__file__).parents[2]
ZERO3 = ROOT / "training" / "recipes" / "deepspeed" / "zero3.json"
# Whole batches, and steps in proportion to their gradients: Adam's first go by their signs.
SETTINGS = [
    "data.validation=4",
    "train.max_steps=4",
    "train.precision=fp32",
    "train.optimizer=sgd",
    "train.learning_rate=0.5",
]


LAUNCHERS = {
    "torchrun": "torch.distributed.run --standalone --nproc-per-node=2",
    "accelerate": "accelerate.commands.launch --multi_gpu --num_processes=2 --num_machines=1 "
    "--mixed_precision=no --dynamo_backend=no --main_process_port=0",
}


def together(
    recipe: Path, *words: str, settings: Sequence[str], launcher: str = "torchrun"
) -> subprocess.CompletedProcess[str]:
    """`hatstand train` in two processes on CPUs."""
    launch = LAUNCHERS[launcher].split()
    command = [sys.executable, "-m", *launch, "-m", "clients", "train", str(recipe), *words]
    for assignment in settings:
        command += ["--set", assignment]
    # Warnings of the launcher and of gloo are not ours.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=recipe.parent, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_two_processes_train_the_adapter_of_one(
    write_recipe: Any, tmp_path: Path, hatstand_home: Path
) -> None:
    """Rows of like length share a step in both, and in two they are dealt out without padding."""
    recipe = write_recipe(train={"batch_size": 4})
    whole = [*SETTINGS, f"output={tmp_path / 'alone'}"]
    alone = train(recipe, whole, console=Console(quiet=True))
    more = ["train.batch_size=2", "train.save_every=2", "train.unpadded=true"]
    done = together(recipe, "--push", "colors", settings=[*SETTINGS, *more])
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("adapter in") == 1  # the second process is silent
    [version] = Registry.open(hatstand_home / "registry").versions("colors")
    assert version.number == 1
    assert_near(tmp_path / "out", alone.folder)
    assert {path.name for path in (tmp_path / "out-checkpoints").iterdir()} == {
        "checkpoint-2",
        "checkpoint-4",
    }


@pytest.mark.parametrize(
    ("stage", "launcher"), [(1, "torchrun"), (2, "accelerate"), (3, "torchrun")]
)
def test_zero_divides_the_work_and_publishes_the_whole(
    write_recipe: Any, tmp_path: Path, stage: int, launcher: str
) -> None:
    """The article's JSON but for the stage; its schedule gives two steps without a rate, then two
    with one.

    Beside a large epsilon Adam's steps are in proportion to the gradients, so that the order of
    sums decides no sign.
    """
    values = json.loads(ZERO3.read_text())
    values["zero_optimization"]["stage"] = stage
    (tmp_path / "zero.json").write_text(json.dumps(values))
    recipe = write_recipe(
        load={"quantization": "none"},
        data={"validation": 4, "heldout": []},
        evaluate={"rows": 0},
        train={
            "batch_size": 4, "group_by_length": False, "max_steps": 4, "warmup": 0,
            "precision": "fp32", "scheduler": "warmup_decay", "learning_rate": 0.5,
            "adam_epsilon": 1.0, "best": True, "eval_every": 1,
        },
    )  # fmt: skip
    alone = train(recipe, [f"output={tmp_path / 'alone'}"], console=Console(quiet=True))
    settings = ["train.batch_size=2", "train.deepspeed=zero.json"]
    done = together(recipe, settings=settings, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("adapter in") == 1
    assert_near(tmp_path / "out", alone.folder)


def assert_near(found: Path, wanted: Path) -> None:
    """Every tensor of one adapter is the other's but for the order of sums, and rounding."""
    one = load_file(wanted / "adapter_model.safetensors")
    two = load_file(found / "adapter_model.safetensors")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert two[name].shape == tensor.shape
        distance = (two[name].float() - tensor.float()).norm() / tensor.float().norm()
        assert distance < 0.03, name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON file"),
        ("[]", "has to hold an object"),
        ('{"zero_optimization": {"stage": 7}}', "DeepSpeed refuses it"),
        ('{"zero_optimization": {"stagge": 3}}', "DeepSpeed refuses it"),
    ],
)
def test_deepspeeds_own_reader_judges_its_configuration(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "zero.json"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        configuration(path)


@pytest.mark.parametrize("params", [None, {}, {"torch_adam": True}])
def test_adam_is_torchs_whatever_is_left_empty(
    tmp_path: Path, params: dict[str, bool] | None
) -> None:
    path = tmp_path / "zero.json"
    optimizer = {"type": "AdamW", "params": params}
    zero = {"stage": 2, "offload_optimizer": None}
    path.write_text(json.dumps({"optimizer": optimizer, "zero_optimization": zero}))
    assert configuration(path)["optimizer"]["params"] == {"torch_adam": True}


def test_the_articles_configuration_is_taken_as_it_stands() -> None:
    assert (
        configuration(ZERO3)["zero_optimization"]
        == json.loads(ZERO3.read_text())["zero_optimization"]
    )


def test_alone_there_is_nobody_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (is_first(), count(), backend()) == (True, 1, None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert (is_first(), count()) == (False, 2)


def test_what_is_kept_outlives_the_model() -> None:
    weight = torch.ones(2, 2)
    kept = Adapter({"a": weight}, config=None).kept()
    weight.zero_()
    assert torch.equal(kept.tensors["a"], torch.ones(2, 2))
