"""How many parameters there are and how many are trained, from shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from training.errors import BaseError
from training.model import lora_config, quiet
from training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Counts:
    """`linear` are the weights that quantization takes, `rest` embeddings, norms and output."""

    linear: int
    rest: int
    trained: int

    @property
    def base(self) -> int:
        return self.linear + self.rest

    @property
    def share(self) -> float:
        """Trained parameters of all, an adapter's own among them, as peft prints it."""
        return self.trained / (self.base + self.trained)


def count(recipe: Recipe, config: PretrainedConfig) -> Counts:
    """Build base and adapter on the meta device, where tensors have shapes and no bytes.

    Raises `BaseError` when `lora.target_modules` fits no module.
    """
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    everything = sum(parameter.numel() for parameter in model.parameters())
    linear = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    )
    rest = everything - linear
    if recipe.method == "full":
        return Counts(linear, rest, everything)
    # Where factors begin says nothing about how many there are, and could not be computed here.
    plain = lora_config(recipe.lora.model_copy(update={"init": "default"}))
    try:
        with torch.device("meta"), quiet():
            adapted = get_peft_model(model, plain)
    except ValueError as error:
        raise BaseError(f"`lora.target_modules` does not fit the base: {error}") from error
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    return Counts(linear, rest, trained)
