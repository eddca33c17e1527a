"""The base as a run loads it, and an adapter on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

from registry.bases import NF4, BaseRecord

from .errors import BaseError
from .gptq import load_gptq
from .precision import compute_dtype, device
from .recipe import LoadSettings, LoraSettings

# On CPUs, torch's fused attention is slower than the plain one up to about this many tokens
# (backward pass, 16 rows of 64 tokens: 3.0 against 2.3 seconds a step); beyond it the plain one's
# memory, which grows with the square of the length, decides.
_PLAIN_ATTENTION_TOKENS = 512

Contexts = Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]

SERVED = LoadSettings()  # what servers hold: NF4 with double quantization


def load_base(
    folder: Path,
    load: LoadSettings = SERVED,
    *,
    max_length: int = 1024,
    dtype: torch.dtype | None = None,
) -> Any:
    """The base, quantized as `load` says; `SERVED` is how the server holds it.

    A checkpoint that bitsandbytes quantized already loads as it is. `dtype` is that of weights
    that are not quantized (None: `compute_dtype()`). Returns a `MistralForCausalLM`; raises
    `BaseError` when the folder is no such checkpoint.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    dtype = dtype or compute_dtype()
    plain = device().type == "cpu" and max_length <= _PLAIN_ATTENTION_TOKENS
    attention = "eager" if plain else "sdpa"
    try:
        config = AutoConfig.from_pretrained(folder)
        _check_quantization(folder, config, load)
        if load.quantization == "gptq":
            return load_gptq(folder, config, dtype=dtype, attention=attention, place=device())
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            quantization_config=_quantization(config, load),
            attn_implementation=attention,
            device_map={"": device()},
        )
    except (OSError, ValueError) as error:
        raise BaseError(f"{folder} cannot be loaded as a base: {error}") from error
    keep_weights_exact(model)
    return model


def _check_quantization(folder: Path, config: Any, load: LoadSettings) -> None:
    """A quantized checkpoint trains in its own quantization only."""
    found = _method(config)
    if found is None and load.quantization != "gptq":
        return
    wanted = {"nf4": "bitsandbytes", "int8": "bitsandbytes", "gptq": "gptq"}.get(load.quantization)
    if found != wanted:
        made = f"is quantized by {found}" if found else "is not quantized"
        hint = "; set `load.quantization: gptq` and `serve_on`" if found == "gptq" else ""
        raise BaseError(
            f"{folder} {made}, which is not `load.quantization: {load.quantization}`{hint}"
        )


def _method(config: Any) -> str | None:
    quantization = getattr(config, "quantization_config", None)
    return None if quantization is None else str(dict(quantization).get("quant_method"))


def _quantization(config: Any, load: LoadSettings) -> Any:
    from transformers import BitsAndBytesConfig

    if _method(config) is not None or load.quantization == "none":
        return None
    skipped = ["lm_head"]
    if load.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    values = {**NF4, "bnb_4bit_use_double_quant": load.double_quantization}
    values["bnb_4bit_compute_dtype"] = _multiplied_in(load)
    return BitsAndBytesConfig(**values, llm_int8_skip_modules=skipped)


def _multiplied_in(load: LoadSettings) -> torch.dtype:
    if load.compute_dtype == "auto" or device().type != "cuda":
        return compute_dtype()
    dtype: torch.dtype = getattr(torch, load.compute_dtype)
    return dtype


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
        use_dora=settings.dora,
        # PiSSA and OLoRA begin like the default: `methods.origins` sets their factors itself.
        init_lora_weights="gaussian" if settings.init == "gaussian" else True,
    )


def attach(model: Any, config: Any, base: BaseRecord, *, checkpointing: bool = False) -> Any:
    """A `PeftModel` with a fresh adapter in fp32 over the frozen base.

    Raises `BaseError` when no module of the base is a target.
    """
    from peft import get_peft_model

    if checkpointing:
        save_activations(model)
    try:
        with quiet():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise BaseError(f"`lora.target_modules` does not fit the base: {error}") from error
    # PEFT fills in the folder the base was loaded from, and leaves the revision empty.
    config.base_model_name_or_path = base.source
    config.revision = base.revision
    return adapted


def save_activations(model: Any) -> None:
    """Compute activations again in the backward pass instead of keeping them."""
    recompute(model)
    model.enable_input_require_grads()


def recompute(model: Any, contexts: Contexts | None = None) -> None:
    """Have torch's checkpointing run each layer; `contexts` makes what its two passes run in."""
    how: dict[str, Any] = {"use_reentrant": False}
    if contexts is not None:
        how["context_fn"] = contexts
    # transformers renamed it and warns of the old name.
    new = getattr(model, "activation_checkpointing_enable", None)
    (new or model.gradient_checkpointing_enable)(how)


def reload(model: Any, folder: Path) -> Any:
    """Swap the adapter of `model`, if any, for the one saved in `folder`, its values as saved."""
    from peft import PeftModel

    with quiet():
        loaded = PeftModel.from_pretrained(
            model.unload() if hasattr(model, "unload") else model,
            str(folder),
            autocast_adapter_dtype=False,
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
def quiet() -> Iterator[None]:
    """PEFT 0.21 asks transformers for an attribute that transformers 5.23 calls deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        yield
