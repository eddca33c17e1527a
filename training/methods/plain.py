"""LoRA on any base: what is trained is what is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from registry.bases import BaseRecord
from training.model import attach, lora_config
from training.recipe import LoraSettings

from .adapter import Adapter


@dataclass(frozen=True)
class PlainLora:
    """Fresh factors beside every target; rsLoRA and rank patterns are PEFT's own."""

    settings: LoraSettings
    base: BaseRecord
    checkpointing: bool

    def prepare(self, model: Any) -> Any:
        """The model with factors to train. Raises `BaseError` when nothing is a target."""
        config = lora_config(self.settings)
        return attach(model, config, self.base, checkpointing=self.checkpointing)

    def finish(self, model: Any) -> Adapter:
        """The trained factors."""
        return Adapter(plain_tensors(model), model.peft_config["default"])


def plain_tensors(model: Any, adapter_name: str = "default") -> dict[str, torch.Tensor]:
    """One adapter's factors by PEFT's names."""
    from peft import get_peft_model_state_dict

    # Embeddings are never part of an adapter; asked to decide, PEFT would look for them on the Hub.
    return dict(
        get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)
    )
