"""Read an adapter into one blob of host memory that travels to a device as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from registry.adapters import AdapterSpec
from server.engine.arena import Blob, blob_table, places_of, projections_of
from server.engine.config import ModelConfig
from server.engine.request import AdapterRef


@dataclass(frozen=True)
class BlobPacker:
    """Lays adapters out for a device's arena. Called by the loader's threads."""

    dtype: torch.dtype
    pin: bool

    def __call__(
        self, adapter: AdapterRef, weights: Path, spec: AdapterSpec, config: ModelConfig
    ) -> Blob:
        """Read `adapter_model.safetensors`; ValueError if it is not what `spec` says."""
        ranks = {name: module.rank for name, module in spec.modules.items()}
        places, elements = places_of(config, ranks)
        data = torch.empty(elements, dtype=self.dtype, pin_memory=self.pin)
        names = {(site, part): (layer, name) for site, part, layer, name in projections_of(config)}
        with safe_open(weights, framework="pt", device="cpu") as file:
            for place in places:
                layer, projection = names[place.site, place.part]
                module = spec.modules[layer, projection]
                shape_a = (module.rank, module.in_features)
                shape_b = (module.out_features, module.rank)
                a = _read(file, spec.tensor_name(layer, projection, "lora_A"), shape_a)
                b = _read(file, spec.tensor_name(layer, projection, "lora_B"), shape_b)
                _at(data, place.shrink, a.shape).copy_(a)
                _at(data, place.expand, b.T.shape).copy_((b.float() * module.scaling).T)
        table = blob_table(config, places)
        return Blob(adapter.digest, adapter.label, spec.max_rank, data, table)


def _read(file: Any, name: str, shape: tuple[int, int]) -> torch.Tensor:
    """A factor in the file's dtype; ValueError if it is not what the configuration says."""
    tensor: torch.Tensor = file.get_tensor(name)
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {list(shape)}")
    return tensor


def _at(data: torch.Tensor, start: int, shape: torch.Size) -> torch.Tensor:
    return data[start : start + shape.numel()].view(shape)
