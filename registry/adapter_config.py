"""Which features of a PEFT 0.21 `adapter_config.json` can be served, key by key.

A key that changes what the model answers is either honoured or refused, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import ConfigRefused
from .validation import near

CONFIG_FILE = "adapter_config.json"

# Read by `registry.adapters`.
_HONOURED = frozenset(
    {
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
    }
)

# Nothing in these reaches a forward pass over the trained factors.
_NO_EFFECT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",  # a name proves nothing: the fingerprint is what counts
        "ensure_weight_tying",  # only about embeddings, which are refused
        "eva_config",  # an initialization that leaves the base alone
        "inference_mode",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "velora_config",  # another backward pass, the same forward pass
    }
)

# Why each feature is refused when it is on. The reason completes "… because".
_REFUSED: Mapping[str, str] = {
    "alora_invocation_tokens": "an activated LoRA applies to part of the tokens only",
    "arrow_config": "Arrow routes between several adapters at every layer",
    "corda_config": "CorDA changes the base weights; convert the adapter to plain LoRA when saving",
    "fan_in_fan_out": "Mistral's projections are not stored transposed",
    "kasa_config": "KaSA changes the base weights, and on NF4 silently becomes plain LoRA",
    "layer_replication": "it builds another stack of layers than the resident base's",
    "loftq_config": "LoftQ replaces the quantized base weights",
    "lora_bias": "the server has no bias beside lora_B yet",
    "lora_ga_config": "LoRA-GA changes the base weights; convert the adapter to plain LoRA when "
    "saving",
    "megatron_config": "the server does not run Megatron's layers",
    "modules_to_save": "whole modules cannot differ per request on a shared base",
    "monteclora_config": "it samples the adapter anew at every pass",
    "target_parameters": "the server adapts the seven projections of each layer only",
    "trainable_token_indices": "embeddings cannot differ per request on a shared base yet",
    "use_bdlora": "block-diagonal LoRA silently becomes plain LoRA on NF4",
    "use_dora": "DoRA rescales each output by the norm of the merged weight, which the server does "
    "not compute; train with use_dora=False",
    "use_qalora": "QALoRA pools the inputs of GPTQ layers",
}

# init_lora_weights: what leaves the base as it is, and what does not.
_HARMLESS_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})
_MUTATING_INITS = ("pissa", "olora", "corda", "lora_ga", "loftq")


def judge(config: Mapping[str, Any]) -> list[str]:
    """Refuse what cannot be served (`ConfigRefused`, `param` = the key); return warnings.

    Unknown keys that are off (null, false, empty) come from a newer PEFT and only warn.
    """
    warnings = []
    _check_kind(config)
    for key, value in config.items():
        if key in _REFUSED:
            if _is_on(value):
                raise ConfigRefused(
                    f"{CONFIG_FILE}: {key} cannot be hot-loaded because {_REFUSED[key]}", param=key
                )
        elif key not in _HONOURED | _NO_EFFECT | _JUDGED_APART:
            if _is_on(value):
                hint = near(key, _HONOURED | _NO_EFFECT | set(_REFUSED))
                raise ConfigRefused(
                    f"{CONFIG_FILE}: unknown key {key!r}{hint} It may change what the adapter "
                    "answers, so it is refused rather than ignored.",
                    param=key,
                )
            warnings.append(f"{CONFIG_FILE}: unknown key {key!r} is off and has no effect")
    return warnings


_JUDGED_APART = frozenset({"peft_type", "task_type", "bias", "init_lora_weights"})


def _check_kind(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ConfigRefused(
            f"{CONFIG_FILE}: peft_type is {kind!r}; only 'LORA' adapters can be hot-loaded",
            param="peft_type",
        )
    task = config.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise ConfigRefused(
            f"{CONFIG_FILE}: task_type is {task!r}; only 'CAUSAL_LM' adapters can be served",
            param="task_type",
        )
    if config.get("bias", "none") != "none":
        raise ConfigRefused(
            f"{CONFIG_FILE}: bias {config['bias']!r} trains the base's own biases, which are "
            "shared; train with bias='none'",
            param="bias",
        )
    _check_initialization(config.get("init_lora_weights", True))


def _check_initialization(value: object) -> None:
    """Some initializations move part of the base weights into the adapter."""
    if isinstance(value, bool) or value is None:
        return
    name = value.lower() if isinstance(value, str) else ""
    if name in _HARMLESS_INITS:
        return
    reason = "it is unknown, and may change the base weights"
    if name.startswith(_MUTATING_INITS):
        reason = (
            "it changes the base weights that all adapters share; save it converted to plain "
            "LoRA (PEFT: path_initial_model_for_weight_conversion)"
        )
    raise ConfigRefused(
        f"{CONFIG_FILE}: init_lora_weights {value!r} cannot be hot-loaded because {reason}",
        param="init_lora_weights",
    )


def _is_on(value: object) -> bool:
    """Zero counts as on: token 0 or module 0 may be meant."""
    return not (value is None or value is False or value in ({}, [], ""))
