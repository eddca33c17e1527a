"""PiSSA (arXiv 2404.02948) and OLoRA (arXiv 2406.01775): factors that begin as parts of a weight.

PEFT takes the part out of the base, which then is no longer the one that is served, and refuses to
with NF4. Here the base stays as it is: a frozen twin of each pair subtracts its beginning, and what
is saved is the difference, an adapter of twice the rank for the untouched base.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch

from registry.bases import BaseRecord
from training.model import attach, lora_config
from training.recipe import LoraSettings

from .adapter import Adapter
from .factors import compact, nearest
from .layers import adapted, dense_weight, tensor_names

_TWIN = "origin"
Init = Literal["pissa", "olora"]


@dataclass(frozen=True)
class OriginLora:
    """Trains `default` beside its frozen twin, which begin as each other's negative."""

    settings: LoraSettings
    base: BaseRecord
    checkpointing: bool
    init: Init

    def prepare(self, model: Any) -> Any:
        """The model with both pairs of factors, of which one is trained."""
        config = lora_config(self.settings)
        model = attach(model, config, self.base, checkpointing=self.checkpointing)
        twin = copy.deepcopy(config)
        twin.lora_dropout = 0.0
        model.add_adapter(_TWIN, twin)
        model.base_model.set_adapter(["default", _TWIN])
        for _, layer in adapted(model):
            _begin(layer, self.init)
        for name, parameter in model.named_parameters():
            if f".{_TWIN}." in name:
                parameter.requires_grad_(False)
        return model

    def finish(self, model: Any) -> Adapter:
        """The difference of both pairs, scaling 1."""
        tensors, ranks = {}, {}
        for name, layer in adapted(model):
            scaling = layer.scaling["default"]
            left = [scaling * layer.lora_B[each].weight.detach() for each in ("default", _TWIN)]
            right = [layer.lora_A[each].weight.detach() for each in ("default", _TWIN)]
            b, a = compact(torch.cat(left, dim=1), torch.cat(right, dim=0))
            name_a, name_b = tensor_names(name)
            tensors[name_a], tensors[name_b] = a, b
            ranks[name] = len(a)
        return Adapter(tensors, unscaled(model.peft_config["default"], 2 * self.settings.r, ranks))


def unscaled(config: Any, rank: int, ranks: dict[str, int]) -> Any:
    """`config` for factors of these ranks whose product is the change itself, whole."""
    config = copy.deepcopy(config)
    others = {name: each for name, each in ranks.items() if each != rank}
    config.r, config.lora_alpha = rank, rank
    config.rank_pattern, config.alpha_pattern = dict(others), dict(others)
    config.use_rslora = config.use_dora = False
    config.init_lora_weights = True
    return config


@torch.no_grad()
def _begin(layer: Any, init: Init) -> None:
    weight = dense_weight(layer.get_base_layer())
    rank, scaling = layer.r["default"], layer.scaling["default"]
    left, right = (_principal if init == "pissa" else _orthonormal)(weight, rank)
    root = scaling**0.5  # so that scaling · B A is the part itself
    for name, sign in (("default", 1), (_TWIN, -1)):
        layer.lora_B[name].weight.copy_(sign * left / root)
        layer.lora_A[name].weight.copy_(right / root)


def _principal(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The part with the largest singular values."""
    return nearest(weight, rank)


def _orthonormal(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first columns of Q and rows of R."""
    q, r = torch.linalg.qr(weight)
    return q[:, :rank], r[:rank]
