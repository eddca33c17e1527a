"""DoRA (arXiv 2402.09353): length and direction of each output trained apart.

    W' = m · (W + s B A) / ‖W + s B A‖, the norm taken over each row

A server that adds a low-rank product to a shared W cannot compute that, so what is saved is the
adapter of rank `extract_rank` nearest to W' − W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from registry.bases import BaseRecord
from training.model import attach, lora_config
from training.recipe import LoraSettings

from .adapter import Adapter
from .factors import nearest, squared
from .layers import adapted, dense_weight, tensor_names
from .origins import unscaled


@dataclass(frozen=True)
class Dora:
    """Trains PEFT's DoRA; `rank` is that of the saved adapter."""

    settings: LoraSettings
    base: BaseRecord
    checkpointing: bool
    rank: int

    def prepare(self, model: Any) -> Any:
        """The model with factors and magnitudes to train."""
        config = lora_config(self.settings)
        return attach(model, config, self.base, checkpointing=self.checkpointing)

    @torch.no_grad()
    def finish(self, model: Any) -> Adapter:
        """The nearest plain adapter, and how much of the change it holds."""
        tensors, ranks, held, whole = {}, {}, 0.0, 0.0
        for name, layer in adapted(model):
            delta = merged_change(layer)
            b, a = nearest(delta, min(self.rank, *delta.shape))
            name_a, name_b = tensor_names(name)
            tensors[name_a], tensors[name_b] = a, b
            ranks[name] = len(a)
            held, whole = held + squared(b @ a), whole + squared(delta)
        config = unscaled(model.peft_config["default"], self.rank, ranks)
        return Adapter(tensors, config, captured=held / whole if whole else 1.0)


def merged_change(layer: Any) -> torch.Tensor:
    """W' − W of a DoRA layer, [out, in]."""
    weight = dense_weight(layer.get_base_layer())
    b, a = layer.lora_B["default"].weight.float(), layer.lora_A["default"].weight.float()
    moved = weight + layer.scaling["default"] * (b @ a)
    magnitude = layer.lora_magnitude_vector["default"].weight.float()
    change: torch.Tensor = (magnitude / moved.norm(dim=1))[:, None] * moved - weight
    return change
