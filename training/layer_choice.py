"""Which layers a run has: the model's own, or their fused twins; and its rows padded or not."""

from __future__ import annotations

from typing import Literal

import torch

from .precision import device
from .recipe import Recipe
from .train_settings import TrainSettings

_AMPERE = (8, 0)


def is_on(setting: bool | Literal["auto"], settings: TrainSettings, *, on_gpu: bool) -> bool:
    """What `fused` or `unpadded` comes to. `auto` is on where it pays: on a GPU that holds whole
    weights. `on_gpu`: whether it is one of those that `has_flash_attention` asks for.
    """
    if setting != "auto":
        return setting
    return on_gpu and settings.deepspeed is None


def has_flash_attention() -> bool:
    """Whether this process trains on a GPU that has torch's flash attention."""
    return device().type == "cuda" and torch.cuda.get_device_capability() >= _AMPERE


def has_fused_products(recipe: Recipe) -> bool:
    """Whether `fused` knows the products of the layers that the recipe trains: a single pair of
    factors, simply added, beside a weight that is made dense for each product.
    """
    lora = recipe.lora
    is_plain = recipe.method == "lora" and not lora.dora and lora.init in ("default", "gaussian")
    return is_plain and recipe.load.quantization != "int8"
