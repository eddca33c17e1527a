"""One recipe in one process and in two: the same adapter, written once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from registry import Registry
from training.commands import train
from training.methods.adapter import Adapter
from training.processes import backend, count, is_first

ROOT = Path(__file__).parents[2]
# Whole batches, and steps in proportion to their gradients: Adam's first go by their signs.
SETTINGS = [
    "data.validation=4",
    "train.group_by_length=false",
    "train.max_steps=4",
    "train.precision=fp32",
    "train.optimizer=sgd",
    "train.learning_rate=0.5",
]


def together(recipe: Path, *words: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """`hatstand train` as torchrun starts it, on CPUs."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *launch, "-m", "clients", "train", str(recipe), *words]
    for assignment in SETTINGS:
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
    from rich.console import Console

    recipe = write_recipe(train={"batch_size": 4})
    whole = [*SETTINGS, f"output={tmp_path / 'alone'}"]
    alone = train(recipe, whole, console=Console(quiet=True))
    done = together(
        recipe, "--set", "train.batch_size=2", "--push", "colors", "--set", "train.save_every=2"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("adapter in") == 1  # the second process is silent
    [version] = Registry.open(hatstand_home / "registry").versions("colors")
    assert version.number == 1
    one = load_file(alone.folder / "adapter_model.safetensors")
    two = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        # Equal but for the order of sums and what rounding makes of it.
        distance = (two[name].float() - tensor.float()).norm() / tensor.float().norm()
        assert distance < 0.03, name
    assert {path.name for path in (tmp_path / "out-checkpoints").iterdir()} == {
        "checkpoint-2",
        "checkpoint-4",
    }


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
