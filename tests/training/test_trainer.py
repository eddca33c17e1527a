"""The loss on answers is the loss it should be, however it is computed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import TrainerCallback, TrainingArguments

from registry.bases import read_base
from training.arguments import training_arguments
from training.callback import CurveCallback
from training.collator import Collator
from training.errors import TrainingDiverged
from training.model import attach, lora_config
from training.progress import Progressing
from training.recipe import LoraSettings, TrainSettings
from training.rendering import Sample
from training.steps import num_steps
from training.trainer import AnswerTrainer

PREFIX = tuple(range(10, 30))
SAMPLES = (
    Sample((*PREFIX, 40, 41, 42, 43, 2), 22, "a"),
    Sample((*PREFIX, 50, 51, 52, 2), 21, "b"),
    Sample((*PREFIX, 60, 61, 62, 63, 64, 65, 2), 24, "c"),
)


@pytest.fixture
def model(tiny_base: Path) -> Any:
    """The tiny Mistral in fp32, its adapter's B factors not zero."""
    from transformers import MistralForCausalLM

    base = MistralForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    adapted = attach(base, lora_config(LoraSettings(r=4, alpha=8)), read_base(tiny_base))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted


def trainer(model: Any, tmp_path: Path, **settings: Any) -> AnswerTrainer:
    from rich.console import Console

    with Progressing(Console(quiet=True)).training(1) as bar:
        callback = CurveCallback(bar)
    made = AnswerTrainer(
        model,
        TrainSettings(batch_size=3, **settings),
        train=SAMPLES,
        validation=(),
        collator=Collator(2),
        folder=tmp_path,
        callbacks=[callback],
    )
    made.curves = callback.curves
    return made


def one_by_one(model: Any) -> torch.Tensor:
    """The definition: rows apart, no padding, all logits, answer tokens summed and counted."""
    total, count = torch.tensor(0.0), 0
    for sample in SAMPLES:
        logits = model(torch.tensor([sample.input_ids])).logits[0, :-1]
        labels = torch.tensor(sample.labels[1:])
        total = total + F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
        count += int((labels != -100).sum())
    return total / count


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("share", [False, True], ids=["padded", "prefix shared"])
def test_loss_and_gradients_are_those_of_each_row_alone(
    model: Any, tmp_path: Path, share: bool
) -> None:
    one_by_one(model).backward()
    expected_loss, expected = one_by_one(model), gradients(model)
    batch = Collator(2, share_prefix=share)(SAMPLES)
    assert ("prefix_ids" in batch) == share
    count = (batch["labels"][:, 1:] != -100).sum()
    loss = trainer(model, tmp_path).compute_loss(model, batch, num_items_in_batch=count)
    loss.backward()
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-6)
    found = gradients(model)
    assert found.keys() == expected.keys()
    assert len(found) == 2 * 7 * 2
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_accumulated_batches_weigh_every_answer_token_alike(model: Any, tmp_path: Path) -> None:
    whole = trainer(model, tmp_path, max_steps=1)
    whole.train()
    expected = whole.curves.train[0][1]
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # the optimizer has moved the weights: start again
            torch.nn.init.zeros_(parameter)
    start = one_by_one(model).item()
    pieces = trainer(model, tmp_path, max_steps=1)
    pieces.args.per_device_train_batch_size = 1
    pieces.args.gradient_accumulation_steps = 3
    pieces.train()
    assert pieces.curves.train[0][1] == pytest.approx(start, rel=2e-2)  # bf16 against fp32
    assert expected != pytest.approx(start, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "rows", "steps"),
    [
        ({"batch_size": 8, "epochs": 1.0}, 64, 8),
        ({"batch_size": 8, "epochs": 1.0}, 65, 9),
        ({"batch_size": 8, "epochs": 0.5}, 64, 4),
        ({"batch_size": 4, "gradient_accumulation": 4, "epochs": 2.0}, 64, 8),
        ({"batch_size": 4, "max_steps": 5, "epochs": 2.0}, 64, 5),
    ],
)
def test_how_many_steps(settings: dict[str, Any], rows: int, steps: int) -> None:
    assert num_steps(TrainSettings(**settings), rows) == steps


def test_one_process_takes_one_of_the_gpus_that_it_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beside_two_gpus(**settings: Any) -> TrainingArguments:
        made = TrainingArguments(**settings)
        made._n_gpu = 2
        return made

    monkeypatch.setattr("training.arguments.TrainingArguments", beside_two_gpus)
    made = training_arguments(TrainSettings(batch_size=3), tmp_path, 6, validates=False)
    assert (made.n_gpu, made.train_batch_size) == (1, 3)


def test_a_loss_that_is_no_number_stops_the_run(model: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_A" in n).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        trainer(model, tmp_path, max_steps=2).train()


# Paging is for GPUs; elsewhere bitsandbytes says so and trains without.
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize(
    "optimizer",
    ["adamw", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "sgd", "adafactor"],
)
def test_every_optimizer_trains(model: Any, tmp_path: Path, optimizer: str) -> None:
    before = [p.clone() for p in model.parameters() if p.requires_grad]
    trainer(model, tmp_path, max_steps=2, optimizer=optimizer, learning_rate=1e-2).train()
    after = [p for p in model.parameters() if p.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize(("paged", "plain"), [("paged_adamw_8bit", "adamw_8bit")])
def test_on_a_cpu_a_paged_optimizer_is_the_plain_one(
    model: Any, tmp_path: Path, paged: str, plain: str
) -> None:
    """Paging moves state out of a GPU's memory; what is computed is the same."""
    twin = copy.deepcopy(model)
    trainer(model, tmp_path, optimizer=paged, max_steps=3, learning_rate=1e-2).train()
    trainer(twin, tmp_path, optimizer=plain, max_steps=3, learning_rate=1e-2).train()
    changed = dict(twin.named_parameters())
    assert all(torch.equal(p, changed[name]) for name, p in model.named_parameters())


def test_fp16_trains_under_a_loss_scaler(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's path, taken on a CPU: accelerate has the scaler and the products for CUDA alone.

    A scale at which gradients overflow costs its step and is halved, until one fits; the factors
    stay fp32.
    """
    monkeypatch.setattr("training.arguments.autocast", lambda precision: precision)
    before = copy.deepcopy(model)
    settings = {"max_steps": 24, "learning_rate": 1e-2, "scheduler": "constant", "warmup": 0}
    made = trainer(model, tmp_path, precision="fp16", **settings)
    made.accelerator.native_amp = True
    made.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**32)
    learned: list[bool] = []

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_step_end(self, *_: Any, **__: Any) -> None:
            pairs = zip(model.parameters(), before.parameters(), strict=True)
            learned.append(any(not torch.equal(new, old) for new, old in pairs))

    made.add_callback(Watch())
    made.train()
    assert not learned[0]
    assert learned[-1]
    assert 1 < made.accelerator.scaler.get_scale() < 2.0**32
    losses = [loss for _, loss in made.curves.train]
    assert losses[-1] < losses[0]
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
