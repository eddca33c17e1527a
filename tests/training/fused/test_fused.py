"""A model of fused layers, its rows behind one another, is the plain model: loss and gradients."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from rich.console import Console
from safetensors.torch import load_file

from registry.bases import read_base
from tests.training.test_gptq import gptq_checkpoint
from tests.training.test_trainer import trainer
from training.collator import Collator
from training.commands import train
from training.errors import RecipeError
from training.flat import FlatCollator, passes
from training.fused import fused
from training.fused.attention import attend
from training.fused.dropout import dropped
from training.fused.lora import Beside, lora_product
from training.fused.weights import DenseWeight
from training.methods import method_for
from training.model import attach, load_base, lora_config
from training.packing import Pack
from training.reading import read_recipe
from training.recipe import LoadSettings, LoraSettings
from training.samples import IGNORED, Sample

SAMPLES = (
    Sample((40, 41, 42, 43, 44, 45, 46, 2), 3, "a"),
    Sample((50, 51, 52, 2), 1, "b"),
    Sample((60, 61, 62, 63, 64, 65, 2), 4, "c"),
    Sample((70, 71, 72, 73, 2), 2, "d"),
)
COUNT = sum(label != IGNORED for sample in SAMPLES for label in sample.labels[1:])
FEW = ("q_proj", "up_proj", "o_proj", "k_proj")


def model_of(folder: Path, quantization: str, *, checkpointed: bool = False, **lora: Any) -> Any:
    """The tiny Mistral in fp32 with an adapter whose B factors are not zero."""
    load = LoadSettings(quantization=quantization, compute_dtype="float32")  # type: ignore[arg-type]
    base = load_base(folder, load, dtype=torch.float32)
    for module in base.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float32
    settings = LoraSettings(r=4, alpha=8, **lora)
    record = read_base(folder)
    torch.manual_seed(1)
    model = attach(base, lora_config(settings), record, checkpointing=checkpointed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def losses_and_gradients(model: Any, made: Any, batch: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    model.zero_grad()
    loss = made.compute_loss(model, batch, num_items_in_batch=torch.tensor(COUNT))
    loss.backward()
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize(
    ("quantization", "modules"),
    [("nf4", "all-linear"), ("nf4", FEW), ("none", "all-linear"), ("gptq", FEW)],
)
def test_loss_and_gradients_are_those_of_the_plain_layers(
    tiny_base: Path, tmp_path: Path, quantization: str, modules: Any, checkpointed: bool
) -> None:
    folder = tiny_base
    if quantization == "gptq":
        folder = tmp_path / "gptq"
        gptq_checkpoint(tiny_base, folder)
    model = model_of(folder, quantization, target_modules=modules, checkpointed=checkpointed)
    made = trainer(model, tmp_path)
    wanted_loss, wanted = losses_and_gradients(model, made, Collator(2)(SAMPLES))
    plain = model.config._attn_implementation
    with fused(model, flat=True, checkpointed=checkpointed):
        batch = FlatCollator(13)(SAMPLES)  # two rows to a pass
        found_loss, found = losses_and_gradients(model, made, batch)
    torch.testing.assert_close(found_loss, wanted_loss, rtol=1e-5, atol=1e-6)
    assert found.keys() == wanted.keys()
    assert len(found) == 2 * 2 * (7 if modules == "all-linear" else 4)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-6, msg=name)
    # And afterwards everything is as it was.
    assert model.config._attn_implementation == plain
    assert not any("forward" in vars(module) for module in model.modules())
    again, _ = losses_and_gradients(model, made, Collator(2)(SAMPLES))
    torch.testing.assert_close(again, wanted_loss)


@pytest.mark.parametrize("quantization", ["nf4", "none", "gptq"])
def test_under_autocast_every_projection_has_one_dtype(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    """Attention takes queries of an adapted layer and keys of a bare one. On a CPU autocast would
    make them alike; a device's kernel refuses them.
    """
    seen: list[set[torch.dtype]] = []

    def noting(*parts: Any, **how: Any) -> torch.Tensor:
        seen.append({part.dtype for part in parts[:3]})
        return attend(*parts, **how)

    monkeypatch.setattr("training.fused.layers.attend", noting)
    folder = tiny_base
    if quantization == "gptq":
        folder = tmp_path / "gptq"
        gptq_checkpoint(tiny_base, folder)
    model = model_of(folder, quantization, target_modules=("q_proj",))
    made = trainer(model, tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        wanted, _ = losses_and_gradients(model, made, Collator(2)(SAMPLES))
        with fused(model, flat=True, checkpointed=False):
            found, gradients = losses_and_gradients(model, made, FlatCollator(13)(SAMPLES))
    assert seen
    assert all(len(dtypes) == 1 for dtypes in seen)
    torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)
    assert len(gradients) == 2 * 2


@pytest.mark.parametrize("quantization", ["nf4", "gptq"])
def test_under_fp16_hidden_states_stay_in_16_bits(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    """bfloat16 and fp16 add up to fp32, which every layer after would hand on. A CPU's own autocast
    knows no two 16-bit types at once.
    """
    for module in ("layers", "weights"):
        monkeypatch.setattr(f"training.fused.{module}.autocast_dtype", lambda _: torch.float16)
    folder = tiny_base
    if quantization == "gptq":
        folder = tmp_path / "gptq"
        gptq_checkpoint(tiny_base, folder)
    model = model_of(folder, quantization, target_modules=("q_proj",))
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and "lora_" not in name:
            parameter.data = parameter.data.bfloat16()
    seen = set()
    for layer in model.get_base_model().model.layers:
        layer.register_forward_hook(lambda _layer, _given, handed: seen.add(handed.dtype))
    made = trainer(model, tmp_path)
    with fused(model, flat=True, checkpointed=False):
        losses_and_gradients(model, made, FlatCollator(13)(SAMPLES))
    assert seen == {torch.bfloat16}


@pytest.mark.parametrize("how", ["pissa", "olora", "dora"])
def test_other_methods_keep_their_products_among_fused_layers(
    tiny_base: Path, tmp_path: Path, write_recipe: Any, how: str
) -> None:
    """As docs/training.md says: two pairs of factors, or a norm over the merged weight."""
    lora = {"dora": True} if how == "dora" else {"init": how}
    recipe = read_recipe(write_recipe(lora={"r": 4, **lora}))
    base = load_base(tiny_base, LoadSettings(quantization="none"), dtype=torch.float32)
    model = method_for(recipe, read_base(tiny_base), tiny_base).prepare(base).train()
    made = trainer(model, tmp_path)
    wanted_loss, wanted = losses_and_gradients(model, made, Collator(2)(SAMPLES))
    with fused(model, flat=True, checkpointed=False):
        changed = [module for module in model.modules() if "forward" in vars(module)]
        found_loss, found = losses_and_gradients(model, made, FlatCollator(13)(SAMPLES))
    assert changed
    assert not any(isinstance(module, LoraLayer) for module in changed)
    torch.testing.assert_close(found_loss, wanted_loss, rtol=1e-5, atol=1e-6)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-6, msg=name)


def test_a_sliding_window_is_kept_to(tiny_base: Path, tmp_path: Path) -> None:
    model = model_of(tiny_base, "none")
    wide = trainer(model, tmp_path)
    without, _ = losses_and_gradients(model, wide, Collator(2)(SAMPLES))
    model.config.sliding_window = 3
    wanted, gradients = losses_and_gradients(model, wide, Collator(2)(SAMPLES))
    assert abs(wanted - without) > 1e-3
    with fused(model, flat=True, checkpointed=False):
        found, others = losses_and_gradients(model, wide, FlatCollator(100)(SAMPLES))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    for name, gradient in others.items():
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-3, atol=1e-6)


def test_attention_that_drops_stays_as_it_is(tiny_base: Path, tmp_path: Path) -> None:
    model = model_of(tiny_base, "none").eval()
    made = trainer(model, tmp_path)
    wanted, _ = losses_and_gradients(model, made, Collator(2)(SAMPLES))
    model.config.attention_dropout = 0.5
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    with fused(model, flat=True, checkpointed=False):
        found, _ = losses_and_gradients(model, made, FlatCollator(100)(SAMPLES))
        model.train()
        dropping, _ = losses_and_gradients(model, made, FlatCollator(100)(SAMPLES))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert abs(dropping - wanted) > 1e-4


def test_what_is_dropped_forward_is_dropped_backward() -> None:
    layer = torch.nn.Linear(24, 10, bias=False)
    x, a, b = (torch.randn(*shape, requires_grad=True) for shape in ((6, 24), (4, 24), (10, 4)))
    how = Beside(DenseWeight(layer), scaling=0.5, dropout=0.3, dtype=torch.float32)
    torch.manual_seed(7)
    product = lora_product(x, a, b, how)
    torch.manual_seed(7)
    seed = int(torch.randint(2**31 - 1, ()))
    mask = dropped(torch.ones_like(x), 0.3, seed)
    expected = x @ layer.weight.t() + 0.5 * ((x * mask) @ a.t() @ b.t())
    torch.testing.assert_close(product, expected)
    found = torch.autograd.grad(product.square().sum(), (x, a, b))
    wanted = torch.autograd.grad(expected.square().sum(), (x, a, b))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_checkpointed_dropout_is_drawn_once(tiny_base: Path, tmp_path: Path) -> None:
    """What a layer computes again in the backward pass is what it computed."""
    found = []
    for checkpointed in (False, True):
        model = model_of(tiny_base, "nf4", dropout=0.5, checkpointed=checkpointed)
        made = trainer(model, tmp_path)
        with fused(model, flat=True, checkpointed=checkpointed):
            torch.manual_seed(3)
            found.append(losses_and_gradients(model, made, FlatCollator(100)(SAMPLES)))
    (loss, gradients), (other_loss, others) = found
    torch.testing.assert_close(loss, other_loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, others[name])


def test_passes_hold_every_row_once_and_keep_to_the_limit() -> None:
    batch = FlatCollator(13)((Pack(SAMPLES[:2]), Pack(SAMPLES[2:])))
    pieces = list(passes(batch))
    assert [int(piece["input_ids"].shape[1]) for piece in pieces] == [13, 11]
    for piece in pieces:
        bounds = piece["cu_seq_lens_q"].tolist()
        assert bounds[-1] == piece["input_ids"].shape[1]
        assert piece["max_length_q"] == max(b - a for a, b in pairwise(bounds))
        for start in bounds[:-1]:
            assert piece["position_ids"][0, start] == 0
            assert piece["labels"][0, start] == IGNORED
    assert sum(int((piece["labels"] != IGNORED).sum()) for piece in pieces) == COUNT
    assert int((batch["labels"][:, 1:] != IGNORED).sum()) == COUNT  # as Trainer counts


def test_a_recipe_trains_the_same_adapter_by_either(write_recipe: Any) -> None:
    """Rows of several lengths, accumulated; sgd goes by the gradients themselves."""
    path = write_recipe(
        data={"validation": 3},
        train={
            "batch_size": 2, "gradient_accumulation": 3, "max_steps": 4, "precision": "fp32",
            "optimizer": "sgd", "learning_rate": 0.5,
        },
        evaluate={"rows": 0},
    )  # fmt: skip
    quiet = Console(quiet=True)
    plain = train(path, console=quiet)
    before = load_file(plain.folder / "adapter_model.safetensors")
    ours = train(path, ["train.fused=true", "train.unpadded=true"], console=quiet)
    after = load_file(ours.folder / "adapter_model.safetensors")
    for (step, loss), (same, other) in zip(
        plain.metrics.curves.train + plain.metrics.curves.validation,
        ours.metrics.curves.train + ours.metrics.curves.validation,
        strict=True,
    ):
        assert same == step
        assert other == pytest.approx(loss, rel=3e-3)  # rounding to bfloat16, and where it leads
    for name, tensor in before.items():
        distance = (after[name].float() - tensor.float()).norm() / tensor.float().norm()
        assert distance < 0.02, name


def test_deepspeed_divides_what_they_need(write_recipe: Any) -> None:
    with pytest.raises(RecipeError, match="whole weights"):
        read_recipe(write_recipe(train={"fused": True, "deepspeed": "zero3.json"}))
