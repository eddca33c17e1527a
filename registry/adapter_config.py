"""Which features of a PEFT 0.21 `adapter_config.json` can be served, key by key.

A key that changes what the model answers is either honoured or refused, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigRefused
from .validation import near
from .verdicts import Verdict, accepted, is_on

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


@dataclass(frozen=True)
class Judgement:
    """Every feature that a configuration turns on, and what a person may want to know."""

    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]


def judge(config: Mapping[str, Any]) -> Judgement:
    """Judge every key; raises `ConfigRefused` when one cannot be served.

    The error's `param` is the first such key, its `verdicts` are all there are. Unknown keys that
    are off (null, false, empty) come from a newer PEFT and only warn.
    """
    verdicts = [verdict for key in config if (verdict := _judge_key(config, key)) is not None]
    if config.get("peft_type") != "LORA":  # also when it is not there at all
        verdicts.insert(0, _judge_kind(config.get("peft_type")))
    refused = [verdict for verdict in verdicts if not verdict.is_accepted]
    if refused:
        more = f" (and {len(refused) - 1} more reasons)" if len(refused) > 1 else ""
        raise ConfigRefused(
            f"{CONFIG_FILE}: {refused[0].reason}{more}",
            param=refused[0].key,
            verdicts=tuple(verdicts),
        )
    unknown = [key for key in config if key not in _KNOWN]
    warnings = [f"{CONFIG_FILE}: unknown key {key!r} is off and has no effect" for key in unknown]
    return Judgement(tuple(verdicts), tuple(warnings))


def _judge_key(config: Mapping[str, Any], key: str) -> Verdict | None:
    value = config[key]
    if key in _JUDGES:
        reason = _JUDGES[key](value)
    elif key in _REFUSED:
        reason = f"{key} cannot be hot-loaded because {_REFUSED[key]}" if is_on(value) else None
    elif key in _KNOWN or not is_on(value):
        reason = None
    else:
        hint = near(key, _KNOWN)
        reason = (
            f"unknown key {key!r}{hint} It may change what the adapter answers, so it is refused "
            "rather than ignored."
        )
    return accepted(key, value) if reason is None else Verdict(key, False, reason)


def _judge_kind(kind: object) -> Verdict:
    reason = f"peft_type is {kind!r}; only 'LORA' adapters can be hot-loaded"
    return Verdict("peft_type", False, reason)


def _refuse_task(task: object) -> str | None:
    if task in (None, "CAUSAL_LM"):
        return None
    return f"task_type is {task!r}; only 'CAUSAL_LM' adapters can be served"


def _refuse_bias(bias: object) -> str | None:
    if bias == "none":
        return None
    return f"bias {bias!r} trains the base's own biases, which are shared; train with bias='none'"


def _refuse_initialization(value: object) -> str | None:
    """Some initializations move part of the base weights into the adapter."""
    if isinstance(value, bool) or value is None:
        return None
    name = value.lower() if isinstance(value, str) else ""
    if name in _HARMLESS_INITS:
        return None
    reason = "it is unknown, and may change the base weights"
    if name.startswith(_MUTATING_INITS):
        reason = (
            "it changes the base weights that all adapters share; save it converted to plain "
            "LoRA (PEFT: path_initial_model_for_weight_conversion)"
        )
    return f"init_lora_weights {value!r} cannot be hot-loaded because {reason}"


# Keys whose value decides; each returns why it is refused, or None.
_JUDGES: Mapping[str, Callable[[object], str | None]] = {
    "peft_type": lambda _value: None,  # judged first, since it may be missing
    "task_type": _refuse_task,
    "bias": _refuse_bias,
    "init_lora_weights": _refuse_initialization,
}
_KNOWN = _HONOURED | _NO_EFFECT | frozenset(_REFUSED) | frozenset(_JUDGES)
