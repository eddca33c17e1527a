"""Perplexity by quantization level: what a base loses with each bit (seed 004)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from registry.quantization import NF4
from training.errors import BaseError
from training.model import keep_weights_exact

from .likelihood import Labelled, Likelihood, likelihoods, total

LevelName = Literal["bf16", "int8", "nf4", "nf4-dq"]
LEVELS: tuple[LevelName, ...] = get_args(LevelName)


@dataclass(frozen=True)
class Level:
    """One way to hold the weights: what it takes, and how well the text is predicted so.

    `num_bytes` is all weights with their scales; `bits` is bits for each weight of the linear
    layers that are quantized, the scales counted.
    """

    name: LevelName
    num_bytes: int
    bits: float
    likelihood: Likelihood

    def document(self) -> dict[str, Any]:
        return {
            "level": self.name,
            "bytes": self.num_bytes,
            "bits_per_weight": self.bits,
            "loss": self.likelihood.loss,
            "perplexity": self.likelihood.perplexity,
            "tokens": self.likelihood.tokens,
        }


def measure_level(
    base: Path, name: LevelName, texts: Sequence[Labelled], *, device: torch.device
) -> Level:
    """Load `base` that way, in bfloat16 beside the quantized weights, and read the texts.

    Raises `BaseError` where the checkpoint is quantized already or cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(base)
        if getattr(config, "quantization_config", None) is not None:
            raise BaseError(f"{base} is quantized already: its other levels are gone.")
        model = AutoModelForCausalLM.from_pretrained(
            base,
            config=config,
            dtype=torch.bfloat16,
            quantization_config=_quantization(name),
            device_map={"": device},
        )
    except (OSError, ValueError) as error:
        raise BaseError(f"{base} cannot be loaded as {name}: {error}") from error
    keep_weights_exact(model)
    num_bytes, bits = footprint(model)
    measured = total(likelihoods(model, texts, batch_size=4))
    return Level(name, num_bytes, bits, measured)


def _quantization(name: LevelName) -> Any:
    """transformers' configuration of one level; the output layer stays in bfloat16 throughout."""
    from transformers import BitsAndBytesConfig

    if name == "bf16":
        return None
    if name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["lm_head"])
    settings = {**NF4, "bnb_4bit_use_double_quant": name == "nf4-dq"}
    return BitsAndBytesConfig(**settings, llm_int8_skip_modules=["lm_head"])


def footprint(model: torch.nn.Module) -> tuple[int, float]:
    """Bytes of all weights and scales, and bits for each weight of the blocks' linear layers."""
    seen: set[int] = set()
    num_bytes = linear_bytes = linear_weights = 0
    for name, module in model.named_modules():
        for own in module._parameters.values():
            if own is None or own.data_ptr() in seen:
                continue
            seen.add(own.data_ptr())
            size = sum(tensor.nbytes for tensor in _tensors(own))
            num_bytes += size
            if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
                linear_bytes += size
                linear_weights += module.in_features * module.out_features
    return num_bytes, 8 * linear_bytes / linear_weights


def _tensors(parameter: Any) -> Iterator[torch.Tensor]:
    """A weight with its scales, as bitsandbytes keeps them beside it."""
    yield parameter.data
    if (scales := getattr(parameter, "SCB", None)) is not None:  # int8: one a row
        yield scales
    state = getattr(parameter, "quant_state", None)
    while state is not None:  # NF4: one a block, with double quantization quantized themselves
        yield state.absmax
        if state.offset is not None:
            yield state.offset
        state = state.state2
