"""A run that was cut goes on to the same bits; the best weights are those that are kept."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from rich.console import Console
from transformers import TrainerCallback

from training.checkpoints import newest
from training.commands import train
from training.errors import OutputError, RecipeError
from training.reading import read_recipe

from .conftest import write_rows

pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


class Cut(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Ends the process's work after a step, as a lost machine would."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("cut_at", [3, 5], ids=["within an epoch", "in the next epoch"])
def test_cut_and_resumed_is_uninterrupted_bit_for_bit(
    write_recipe: Any, tmp_path: Path, cut_at: int
) -> None:
    """Dropout draws random numbers, rows come in a random order, Adam has its moments."""
    path = write_recipe(
        lora={"dropout": 0.2},
        train={
            "max_steps": None, "epochs": 2, "batch_size": 3, "save_every": 2, "best": True,
            "optimizer": "paged_adamw_8bit", "scheduler": "warmup_decay", "eval_every": 2,
        },
        evaluate={"rows": 0},
    )  # fmt: skip
    whole = train(path, console=quiet())
    assert [step for step, _ in whole.metrics.curves.train] == list(range(1, 9))
    weights = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    said = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        train(path, callbacks=[Cut(cut_at)], console=Console(file=said, width=10_000))
    folder = tmp_path / "out-checkpoints"
    assert {path.name for path in folder.iterdir()} == {
        f"checkpoint-{step}" for step in range(2, cut_at, 2)
    }
    assert f"--resume goes on from {folder / f'checkpoint-{cut_at - 1}'}" in said.getvalue()
    resumed = train(path, resume=True, console=quiet())
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == weights
    assert resumed.metrics.curves == whole.metrics.curves
    assert resumed.metrics.saved_step == whole.metrics.saved_step


def test_a_checkpoint_that_was_cut_while_it_was_written_is_passed_over(
    write_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended between Trainer's files and ours, which hold the best weights so far."""
    settings = {"max_steps": 6, "save_every": 2, "eval_every": 2, "best": True}
    path = write_recipe(train=settings, evaluate={"rows": 0})
    whole = train(path, console=quiet())
    weights = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    written = safetensors.torch.save_file

    def cut(tensors: Any, file: Path, **options: Any) -> None:
        if Path(file).parts[-2:] == ("checkpoint-4", "best.safetensors"):
            raise KeyboardInterrupt
        written(tensors, file, **options)

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", cut)
        with pytest.raises(KeyboardInterrupt):
            train(path, console=quiet())
    assert (tmp_path / "out-checkpoints" / "checkpoint-4" / "trainer_state.json").is_file()
    assert newest(tmp_path / "out-checkpoints") == tmp_path / "out-checkpoints" / "checkpoint-2"
    resumed = train(path, resume=True, console=quiet())
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == weights
    assert resumed.metrics.saved_step == whole.metrics.saved_step


def test_packed_and_accumulated_it_goes_on_bit_for_bit(write_recipe: Any, tmp_path: Path) -> None:
    """Three rows to a pack, two packs to a step, two steps to an epoch: their order comes back."""
    path = write_recipe(
        lora={"dropout": 0.2},
        train={
            "max_steps": None, "epochs": 3, "batch_size": 1, "gradient_accumulation": 2,
            "packing": True, "max_length": 100, "save_every": 1, "optimizer": "paged_adamw_32bit",
            "max_grad_norm": 0.3, "gradient_checkpointing": True, "scheduler": "cosine",
        },
        evaluate={"rows": 0},
    )  # fmt: skip
    whole = train(path, console=quiet())
    assert [step for step, _ in whole.metrics.curves.train] == list(range(1, 7))
    weights = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        train(path, callbacks=[Cut(3)], console=quiet())
    resumed = train(path, resume=True, console=quiet())
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == weights
    assert resumed.metrics.curves == whole.metrics.curves
    in_order = train(path, ["data.shuffle=false"], console=quiet())
    assert in_order.metrics.curves.train != whole.metrics.curves.train  # the order matters


def test_a_checkpoint_of_another_run_is_refused(write_recipe: Any, tmp_path: Path) -> None:
    path = write_recipe(train={"save_every": 2, "max_steps": 2}, evaluate={"rows": 0})
    train(path, console=quiet())
    for other in ("lora.r=2", "train.learning_rate=1e-4", "data.validation=3"):
        with pytest.raises(OutputError, match="other settings"):
            train(path, [other], resume=True, console=quiet())
    longer = train(path, ["train.max_steps=3"], resume=True, console=quiet())
    assert [step for step, _ in longer.metrics.curves.train] == [1, 2, 3]
    (tmp_path / "out-checkpoints" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="no checkpoint"):
        train(path, console=quiet())


def test_the_weights_from_before_the_loss_turned_are_saved(
    write_recipe: Any, tmp_path: Path
) -> None:
    """What is validated on has other answers than what is learned."""
    write_rows(tmp_path / "other.jsonl", [(f"color {n}?", f"green {n}") for n in range(80, 84)])
    path = write_recipe(
        data={"validation": "other.jsonl"},
        train={"max_steps": 40, "eval_every": 1, "scheduler": "constant", "warmup": 0},
        evaluate={"rows": 0},
    )
    metrics = train(path, ["train.best=true", "train.early_stop=3"], console=quiet()).metrics
    losses = dict(metrics.curves.validation)
    lowest = min(losses, key=lambda step: losses[step])
    assert metrics.saved_step == lowest > 0
    assert metrics.curves.train[-1][0] < 40  # it stopped early
    assert f"saved as of step {lowest}" in (tmp_path / "out" / "README.md").read_text()
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert document["validation_loss"] == losses[lowest]
    assert document["saved_step"] == lowest
    kept = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    train(path, [f"train.max_steps={lowest}"], console=quiet())
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == kept


def test_best_needs_something_to_go_by(write_recipe: Any) -> None:
    with pytest.raises(RecipeError, match="validation loss"):
        read_recipe(write_recipe(train={"best": True}, data={"validation": None}))
