"""Which layers a run has is told without loading a model, and is what a loaded one gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from registry.bases import read_base
from training.fused import fused
from training.layer_choice import has_fused_products, is_on
from training.methods import method_for
from training.model import load_base
from training.reading import read_recipe
from training.train_settings import TrainSettings

RECIPES: dict[str, dict[str, Any]] = {
    "nf4": {},
    "16 bits": {"load": {"quantization": "none"}},
    "8 bits": {"load": {"quantization": "int8"}},
    "gaussian": {"lora": {"init": "gaussian"}},
    "pissa": {"lora": {"init": "pissa"}},
    "olora": {"lora": {"init": "olora"}},
    "dora": {"lora": {"dora": True}},
    "full": {"method": "full", "load": {"quantization": "none"}},
}
FUSED = {"nf4", "16 bits", "gaussian"}


@pytest.mark.parametrize("name", RECIPES)
def test_products_are_fused_where_it_says_so(name: str, tiny_base: Path, write_recipe: Any) -> None:
    recipe = read_recipe(write_recipe(**RECIPES[name]))
    base = load_base(tiny_base, recipe.load, dtype=torch.float32)
    model = method_for(recipe, read_base(tiny_base), tiny_base).prepare(base).train()
    with fused(model, flat=False, checkpointed=False):
        layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        changed = [layer for layer in layers if "forward" in vars(layer)]
    assert len(changed) == (len(layers) if name in FUSED else 0)
    assert has_fused_products(recipe) == (name in FUSED) == bool(changed)


def test_auto_is_on_where_it_pays_and_a_recipe_that_says_so_has_it_anywhere() -> None:
    alone, divided = TrainSettings(), TrainSettings(deepspeed=Path("zero.json"))
    assert [is_on("auto", alone, on_gpu=on_gpu) for on_gpu in (True, False)] == [True, False]
    assert not is_on("auto", divided, on_gpu=True)
    assert is_on(True, alone, on_gpu=False)
    assert not is_on(False, alone, on_gpu=True)
