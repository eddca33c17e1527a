"""Lay an adapter's factors out as slots hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from registry.adapters import AdapterSpec
from server.engine.config import GROUPS, ModelConfig
from server.engine.request import AdapterRef
from server.engine.slots import Factors, PackedAdapter, Site


def pack(
    adapter: AdapterRef, weights: Path, spec: AdapterSpec, config: ModelConfig
) -> PackedAdapter:
    """Read `adapter_model.safetensors` and merge its factors by group, in fp32.

    A group's A matrices stand one below the other; its B matrices, transposed and scaled, fill
    their own columns of an otherwise empty block, so that one product adds to all projections.
    """
    sites: dict[Site, Factors] = {}
    with safe_open(weights, framework="pt", device="cpu") as file:
        for layer in range(config.num_layers):
            for group, projections in GROUPS.items():
                present = [p for p in projections if (layer, p) in spec.modules]
                if present:
                    sites[layer, group] = _pack_site(file, layer, group, spec, config)
    return PackedAdapter(adapter.digest, adapter.label, spec.max_rank, sites)


def _pack_site(
    file: Any, layer: int, group: str, spec: AdapterSpec, config: ModelConfig
) -> Factors:
    out_features, _ = config.group_shape(group)
    shrinks, expands, ranks = [], [], []
    column = 0
    for projection in GROUPS[group]:
        width, _ = config.projection_shape(projection)
        module = spec.modules.get((layer, projection))
        ranks.append(module.rank if module else 0)
        if module is not None:
            names = [spec.tensor_name(layer, projection, part) for part in ("lora_A", "lora_B")]
            a = _read(file, names[0], (module.rank, module.in_features))
            b = _read(file, names[1], (module.out_features, module.rank))
            expand = torch.zeros(module.rank, out_features)
            expand[:, column : column + width] = b.T * module.scaling
            shrinks.append(a)
            expands.append(expand)
        column += width
    return Factors(torch.cat(shrinks), torch.cat(expands), tuple(ranks))


def _read(file: Any, name: str, shape: tuple[int, int]) -> torch.Tensor:
    """A factor in fp32; ValueError if it is not what the configuration says."""
    tensor: torch.Tensor = file.get_tensor(name).float()
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {list(shape)}")
    return tensor
