"""Base and adapter in one model: the adapter is switched off while the base is measured."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from registry.versions import Version
from training.model import load_base, quiet

from .likelihood import Labelled, Likelihood, likelihoods

if TYPE_CHECKING:
    from registry.opening import AnyRegistry


@dataclass(frozen=True)
class Pair:
    """A `PeftModel` over the NF4 base, both as they are served."""

    model: Any
    batch_size: int

    @classmethod
    def load(cls, base: Path, registry: AnyRegistry, version: Version, *, batch_size: int) -> Pair:
        """Load the base in NF4 and a version's weights, as they were saved, onto it.

        Raises `BaseError`, and what a registry raises on files that cannot be had.
        """
        from peft import PeftModel

        model = load_base(base)
        dtype = model.dtype
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "adapter"
            registry.pull(f"{version.name}@{version.digest}", folder)
            with quiet():
                model = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
        if dtype is torch.float32:
            model.float()  # quantized weights are bytes, which this leaves alone
        return cls(model.eval(), batch_size)

    def measure(self, texts: Sequence[Labelled]) -> tuple[list[Likelihood], list[Likelihood]]:
        """Likelihoods of the texts' labelled tokens: the base's, the adapter's."""
        off: Callable[[], contextlib.AbstractContextManager[None]] = self.model.disable_adapter
        with off():
            base = likelihoods(self.model, texts, batch_size=self.batch_size)
        return base, likelihoods(self.model, texts, batch_size=self.batch_size)
