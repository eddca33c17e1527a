"""A plain LoRA adapter, as servers hot-load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch


@dataclass(frozen=True)
class Adapter:
    """Factors by PEFT's names, and PEFT's configuration for them.

    `captured` is the share of the trained change (its squared Frobenius norm) that the factors
    hold, 0 to 1; None where they are the change itself.
    """

    tensors: Mapping[str, torch.Tensor]
    config: Any
    captured: float | None = None

    def kept(self) -> Adapter:
        """The same in host memory, whatever becomes of the model's own tensors."""
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self.tensors.items()}
        return replace(self, tensors=tensors)
