"""Which method a recipe asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from registry.bases import BaseRecord
from training.recipe import Recipe

from .adapter import Adapter
from .dora import Dora
from .full import FullFineTune
from .origins import OriginLora
from .plain import PlainLora


class Method(Protocol):
    """From a loaded base to what is trained, and from that to a servable adapter."""

    def prepare(self, model: Any) -> Any:
        """The model whose parameters with gradients are to be trained."""
        ...

    def finish(self, model: Any) -> Adapter:
        """The adapter that the trained model comes to."""
        ...


def method_for(recipe: Recipe, base: BaseRecord, folder: Path) -> Method:
    """The recipe's method on `base`, whose checkpoint is in `folder`."""
    lora, checkpointing = recipe.lora, recipe.train.gradient_checkpointing
    if recipe.method == "full":
        return FullFineTune(lora, base, checkpointing, recipe.saved_rank, folder)
    if lora.dora:
        return Dora(lora, base, checkpointing, recipe.saved_rank)
    if lora.init == "pissa" or lora.init == "olora":
        return OriginLora(lora, base, checkpointing, lora.init)
    return PlainLora(lora, base, checkpointing)
