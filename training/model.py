"""The NF4 base, and an adapter on it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from registry.bases import NF4, BaseRecord

from .errors import BaseError
from .recipe import LoraSettings, TrainSettings

# On CPUs, torch's fused attention is slower than the plain one up to about this many tokens
# (backward pass, 16 rows of 64 tokens: 3.0 against 2.3 seconds a step); beyond it the plain one's
# memory, which grows with the square of the length, decides.
_PLAIN_ATTENTION_TOKENS = 512


def device() -> torch.device:
    """Where to train: the first CUDA device, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def compute_dtype() -> torch.dtype:
    """bfloat16 where the hardware multiplies it, else float32.

    A CPU without AVX512-BF16 only emulates bfloat16: a step took 4 times as long with AVX512 and
    50 times with AVX2. The 4-bit weights and their scales are the same bits either way; what
    float32 leaves out is the rounding of their products.
    """
    from bitsandbytes.functional import has_avx512bf16

    if device().type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if has_avx512bf16() else torch.float32


def load_base(folder: Path, settings: TrainSettings) -> Any:
    """The base in NF4 with double quantization, as the server holds it.

    A checkpoint that is quantized already loads as it is. Returns a `MistralForCausalLM`; raises
    `BaseError` when the folder is no such checkpoint.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    place, dtype = device(), compute_dtype()
    plain = place.type == "cpu" and settings.max_length <= _PLAIN_ATTENTION_TOKENS
    try:
        config = AutoConfig.from_pretrained(folder)
        quantized = getattr(config, "quantization_config", None) is not None
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            quantization_config=None if quantized else BitsAndBytesConfig(**_nf4(dtype)),
            attn_implementation="eager" if plain else "sdpa",
            device_map={"": place},
        )
    except (OSError, ValueError) as error:
        raise BaseError(f"{folder} cannot be loaded as a base: {error}") from error
    keep_weights_exact(model)
    return model


def _nf4(dtype: torch.dtype) -> dict[str, Any]:
    return {**NF4, "llm_int8_skip_modules": ["lm_head"], "bnb_4bit_compute_dtype": dtype}


def keep_weights_exact(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from rewriting the quantized weights on CPUs with AVX512-BF16.

    There `Linear4bit` repacks its weights in place when it first runs in evaluation mode, and
    rounds their scales to bfloat16 on the way: after an evaluation in the middle of training the
    base would no longer be the one that is served.
    """
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def lora_config(settings: LoraSettings) -> Any:
    """PEFT's `LoraConfig` for the recipe's section."""
    from peft import LoraConfig

    modules = settings.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=_whole(settings.alpha),
        lora_dropout=settings.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        use_rslora=settings.rslora,
        rank_pattern=dict(settings.rank_pattern),
        alpha_pattern={name: _whole(alpha) for name, alpha in settings.alpha_pattern.items()},
    )


def attach(model: Any, config: Any, base: BaseRecord, *, checkpointing: bool = False) -> Any:
    """A `PeftModel` with a fresh adapter in fp32 over the frozen base.

    Raises `BaseError` when no module of the base is a target.
    """
    from peft import get_peft_model

    if checkpointing:
        # transformers renamed it and warns of the old name.
        new = getattr(model, "activation_checkpointing_enable", None)
        (new or model.gradient_checkpointing_enable)()
        model.enable_input_require_grads()
    try:
        with _quiet():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise BaseError(f"`lora.target_modules` does not fit the base: {error}") from error
    # PEFT fills in the folder the base was loaded from, and leaves the revision empty.
    config.base_model_name_or_path = base.source
    config.revision = base.revision
    return adapted


def reload(model: Any, folder: Path) -> Any:
    """Swap the adapter in `model` for the one saved in `folder`, its values as they were saved."""
    from peft import PeftModel

    with _quiet():
        loaded = PeftModel.from_pretrained(
            model.unload(), str(folder), autocast_adapter_dtype=False
        )
    if compute_dtype() is torch.float32:
        loaded.float()  # quantized weights are bytes, which this leaves alone
    return loaded.eval()


def count_parameters(model: torch.nn.Module) -> int:
    """How many parameters are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _whole(value: float) -> float:
    """16.0 as 16: PEFT's files and the server's checks have whole numbers there."""
    return int(value) if value == int(value) else value


@contextmanager
def _quiet() -> Iterator[None]:
    """PEFT 0.21 asks transformers for an attribute that transformers 5.23 calls deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        yield
