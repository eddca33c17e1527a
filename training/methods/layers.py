"""The adapted layers of a PEFT model, and the weights under them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from training.gptq import GptqLinear

PREFIX = "base_model.model."


def adapted(model: Any) -> Iterator[tuple[str, Any]]:
    """Every LoRA layer with its name in the base, such as `model.layers.0.self_attn.q_proj`."""
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name.removeprefix(PREFIX), module


def dense_weight(layer: Any) -> torch.Tensor:
    """The weight [out, in] that a layer multiplies with, in fp32, whatever it is stored as."""
    from peft.utils.integrations import dequantize_module_weight

    if isinstance(layer, GptqLinear):
        return layer.dense().float()
    weight: torch.Tensor = dequantize_module_weight(layer)
    return weight.detach().float()


def tensor_names(module: str) -> tuple[str, str]:
    """The names of A and B in an adapter's file."""
    return f"{PREFIX}{module}.lora_A.weight", f"{PREFIX}{module}.lora_B.weight"
