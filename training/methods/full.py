"""Full fine-tuning: every weight is trained, and the nearest adapter is what is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from registry.adapters import AdapterSpec, module_key
from registry.bases import BaseRecord
from training.errors import BaseError
from training.model import load_base, lora_config, save_activations
from training.recipe import LoadSettings, LoraSettings

from .adapter import Adapter
from .factors import nearest, squared
from .layers import tensor_names
from .origins import unscaled


@dataclass(frozen=True)
class FullFineTune:
    """Trains all weights; `rank` is that of the saved adapter, on `settings.target_modules`."""

    settings: LoraSettings
    base: BaseRecord
    checkpointing: bool
    rank: int
    folder: Path  # of the base, read again for what the weights were

    def prepare(self, model: Any) -> Any:
        """The model with every weight to train."""
        if self.checkpointing:
            save_activations(model)
        return model.requires_grad_(True)

    def finish(self, model: Any) -> Adapter:
        """The nearest adapter; `captured` counts what was trained elsewhere as lost."""
        before = load_base(self.folder, LoadSettings(quantization="none"), dtype=torch.float32)
        modules = self._modules()
        old, new = dict(before.named_parameters()), dict(model.named_parameters())
        adapter = extract(old, new, modules, self.rank)
        ranks = {name: len(adapter.tensors[tensor_names(name)[0]]) for name in modules}
        config = unscaled(lora_config(self.settings), self.rank, ranks)
        config.target_modules = {name.rpartition(".")[2] for name in modules}
        config.base_model_name_or_path, config.revision = self.base.source, self.base.revision
        return Adapter(adapter.tensors, config, adapter.captured)

    def _modules(self) -> list[str]:
        """The projections that get factors, by their names in the base."""
        config = lora_config(self.settings).to_dict()
        targets = config["target_modules"]
        config["target_modules"] = sorted(targets) if isinstance(targets, set) else targets
        spec = AdapterSpec.from_config(config, self.base.config)
        return [module_key(layer, projection) for layer, projection in spec.modules]


@torch.no_grad()
def extract(
    before: Mapping[str, torch.Tensor],
    after: Mapping[str, torch.Tensor],
    modules: list[str],
    rank: int,
) -> Adapter:
    """Factors of rank `rank` nearest to the change of each module's weight; no configuration.

    `before` and `after` are weights by name. Raises `BaseError` where one is empty, as a
    partitioned weight is.
    """
    tensors: dict[str, torch.Tensor] = {}
    whole = held = 0.0
    for name, old in before.items():
        new = after[name].detach().float().to(old.device)
        if new.shape != old.shape:
            raise BaseError(
                f"{name} is {list(new.shape)}, not {list(old.shape)}: is it partitioned?"
            )
        delta = new - old.float()
        whole += squared(delta)
        module = name.removesuffix(".weight")
        if module in modules:
            b, a = nearest(delta, min(rank, *delta.shape))
            held += squared(b @ a)
            name_a, name_b = tensor_names(module)
            tensors[name_a], tensors[name_b] = a, b
    return Adapter(tensors, None, captured=held / whole if whole else 1.0)
