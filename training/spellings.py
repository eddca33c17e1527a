"""How axolotl, transformers, PEFT and bitsandbytes spell what a recipe says: the table.

`translation.py` applies it. A spelling maps to a key of ours, often with another value; a refusal
or "no effect" is written down too, so that nothing a file says is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .sources import HUB


class Refused(Exception):
    """Why a value cannot be taken over; completes "`key`: …"."""


# Told the value and the section it is in; returns our value, or NOTHING where there is none.
Convert = Callable[[Any, Mapping[str, Any]], Any]
NOTHING = object()


@dataclass(frozen=True)
class Spelling:
    """One foreign key: ours, how its value becomes ours, and a word for the reader."""

    target: str
    convert: Convert = lambda value, _: value
    note: str = ""


def _only(*allowed: Any, why: str) -> Convert:
    """Takes values that change nothing here, and refuses all others."""

    def convert(value: Any, _: Mapping[str, Any]) -> Any:
        if value is None or value in allowed:
            return NOTHING
        raise Refused(f"{value!r} {why}")

    return convert


def _no_secret(value: Any, _: Mapping[str, Any]) -> Any:
    """The message must not repeat the value."""
    if value in (None, True, False):
        return NOTHING
    raise Refused("a secret does not belong into a file: set HF_TOKEN in the environment")


def _same(value: Any, _: Mapping[str, Any]) -> Any:
    return NOTHING if value is None else value


def _named(names: Mapping[Any, Any]) -> Convert:
    """Another word for the same thing; what is in no list is left for the check of types."""

    def convert(value: Any, _: Mapping[str, Any]) -> Any:
        return _same(names.get(value, value) if isinstance(value, str) else value, {})

    return convert


# What W&B calls the kinds of watching and of keeping models; here each is on or off.
_WANDB_WORDS = {
    **dict.fromkeys(("gradients", "parameters", "all", "checkpoint", "end", "true"), True),
    **dict.fromkeys(("false", ""), False),
}


def _when_true(ours: Any) -> Convert:
    def convert(value: Any, _: Mapping[str, Any]) -> Any:
        return ours if value is True or value == "auto" else NOTHING

    return convert


def _four_bit(value: Any, section: Mapping[str, Any]) -> Any:
    if value is True:
        return "nf4"
    return NOTHING if section.get("load_in_8bit") is True else "none"


def _eight_bit(value: Any, section: Mapping[str, Any]) -> Any:
    if value is True:
        return "int8"
    return NOTHING if "load_in_4bit" in section else "none"


def _accumulation(value: Any, section: Mapping[str, Any]) -> Any:
    """axolotl's `batch_size` counts the rows of one optimizer step."""
    rows = section.get("micro_batch_size") or 1
    if not isinstance(value, int) or value % rows:
        raise Refused(f"{value!r} rows cannot be made of batches of {rows}")
    return NOTHING if "gradient_accumulation_steps" in section else value // rows


def _share(value: Any, _: Mapping[str, Any]) -> Any:
    if isinstance(value, int | float) and value >= 1:
        raise Refused(f"{value!r} is no share of all steps; for steps say train.warmup")
    return value


def _evaluations(value: Any, _: Mapping[str, Any]) -> Any:
    return {"epoch": "epoch", "no": "never", "steps": NOTHING}.get(value, value)


def _sets(value: Any, _: Mapping[str, Any]) -> Any:
    """axolotl's `datasets`: what is no file is a dataset of the Hub."""
    items = value if isinstance(value, list) else [value]
    return [_set(item) for item in items]


def _set(item: Any) -> str:
    path = item.get("path") if isinstance(item, dict) else item
    if not isinstance(path, str):
        raise Refused("each dataset needs a `path`")
    is_file = path.endswith((".jsonl", ".json", ".csv", ".parquet"))
    if is_file or path.startswith(HUB) or path.count("/") != 1:
        return path
    split = item.get("split", "train") if isinstance(item, dict) else "train"
    return f"{HUB}{path}:{split}"


def _set_format(value: Any, _: Mapping[str, Any]) -> Any:
    """The one format of all sets."""
    kinds = {item.get("type") for item in value if isinstance(item, dict)} - {None}
    known = {"alpaca": "alpaca", "chat_template": "messages", "completion": "text"}
    if len(kinds) > 1 or not kinds <= known.keys():
        raise Refused(f"the types {sorted(map(str, kinds))} are not one of {', '.join(known)}")
    return known[str(kinds.pop())] if kinds else NOTHING


def _validation(value: Any, _: Mapping[str, Any]) -> Any:
    return None if value == 0 else value


def _interval(value: Any, _: Mapping[str, Any]) -> Any:
    if value != 1:
        raise Refused(f"{value!r} could be steps or epochs; say train.save_every")
    return "epoch"


def _listed_modules(value: Any, section: Mapping[str, Any]) -> Any:
    """With `lora_target_linear` every linear layer is adapted, whatever the list says."""
    return NOTHING if section.get("lora_target_linear") is True else _same(value, section)


_OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw": "paged_adamw_32bit",
}
_DTYPES = {"torch.bfloat16": "bfloat16", "torch.float16": "float16", "torch.float32": "float32"}
_NO_CODE = "would run code that comes with the model, which is never done here"
_NO_EFFECT = "has no counterpart here"

TABLE: Mapping[str, tuple[Spelling, ...]] = {
    # the base
    "base_model": (Spelling("base"),),
    "base_model_name_or_path": (Spelling("base"),),
    "model_name_or_path": (Spelling("base"),),
    "model_type": (
        Spelling("", _only("MistralForCausalLM", "AutoModelForCausalLM", why="is not served")),
    ),
    "tokenizer_type": (Spelling("", lambda *_: NOTHING, "the base's own tokenizer is used"),),
    "trust_remote_code": (Spelling("", _only(False, why=_NO_CODE)),),
    "use_auth_token": (Spelling("", _no_secret),),
    "token": (Spelling("", _no_secret),),
    "strict": (Spelling("", _only(False, True, why=_NO_EFFECT), "loading is always strict"),),
    "device_map": (Spelling("", _only("auto", why=_NO_EFFECT)),),
    "load_in_4bit": (Spelling("load.quantization", _four_bit),),
    "load_in_8bit": (Spelling("load.quantization", _eight_bit),),
    "bnb_4bit_quant_type": (Spelling("", _only("nf4", why="is not served: bases are NF4")),),
    "bnb_4bit_use_double_quant": (Spelling("load.double_quantization"),),
    "bnb_4bit_compute_dtype": (Spelling("load.compute_dtype", _named(_DTYPES)),),
    "torch_dtype": (Spelling("load.compute_dtype", _named(_DTYPES)),),
    "dtype": (Spelling("load.compute_dtype", _named(_DTYPES)),),
    # the rows
    "datasets": (Spelling("data.train", _sets), Spelling("data.format", _set_format)),
    "dataset_prepared_path": (Spelling("", lambda *_: NOTHING, "rows are prepared each time"),),
    "val_set_size": (Spelling("data.validation", _validation),),
    "test_size": (Spelling("data.validation", _validation),),
    "train_on_inputs": (Spelling("data.loss", lambda value, _: "full" if value else "answer"),),
    "padding_side": (Spelling("data.padding"),),
    "truncation_side": (Spelling("data.too_long"),),
    "pad_to_sequence_len": (Spelling("data.pad_to_max_length", _same),),
    "add_eos_token": (Spelling("", _only(True, False, why=_NO_EFFECT), "EOS is always learned"),),
    "pad_token": (Spelling("", lambda *_: NOTHING, "padding is told by position, not by token"),),
    # the adapter
    "adapter": (
        Spelling("method", lambda value, _: {"qlora": "lora", None: "full"}.get(value, value)),
    ),
    "peft_type": (Spelling("method", _named({"LORA": "lora"})),),
    "lora_r": (Spelling("lora.r"),),
    "r": (Spelling("lora.r"),),
    "lora_alpha": (Spelling("lora.alpha"),),
    "lora_dropout": (Spelling("lora.dropout"),),
    "lora_target_modules": (Spelling("lora.target_modules", _listed_modules),),
    "target_modules": (Spelling("lora.target_modules", _same),),
    "lora_target_linear": (Spelling("lora.target_modules", _when_true("all-linear")),),
    "lora_fan_in_fan_out": (
        Spelling("", _only(False, why="does not fit: Mistral's weights are not transposed")),
    ),
    "fan_in_fan_out": (
        Spelling("", _only(False, why="does not fit: Mistral's weights are not transposed")),
    ),
    "lora_model_dir": (
        Spelling("", _only(why="would go on from another adapter, which is not done here")),
    ),
    "bias": (Spelling("", _only("none", why="cannot be served: set bias to none")),),
    "task_type": (Spelling("", _only("CAUSAL_LM", why="is not served")),),
    "inference_mode": (Spelling("", _only(False, why="does not train")),),
    "use_rslora": (Spelling("lora.rslora"),),
    "peft_use_rslora": (Spelling("lora.rslora"),),
    "use_dora": (Spelling("lora.dora"),),
    "peft_use_dora": (Spelling("lora.dora"),),
    "rank_pattern": (Spelling("lora.rank_pattern"),),
    "alpha_pattern": (Spelling("lora.alpha_pattern"),),
    "init_lora_weights": (Spelling("lora.init", lambda v, _: NOTHING if v is True else v),),
    # the training
    "num_epochs": (Spelling("train.epochs"),),
    "num_train_epochs": (Spelling("train.epochs"),),
    "max_steps": (Spelling("train.max_steps", lambda v, _: NOTHING if v == -1 else v),),
    "micro_batch_size": (Spelling("train.batch_size"),),
    "per_device_train_batch_size": (Spelling("train.batch_size"),),
    "per_device_eval_batch_size": (Spelling("train.eval_batch_size"),),
    "eval_batch_size": (Spelling("train.eval_batch_size"),),
    "batch_size": (Spelling("train.gradient_accumulation", _accumulation),),
    "gradient_accumulation_steps": (Spelling("train.gradient_accumulation"),),
    "learning_rate": (Spelling("train.learning_rate"),),
    "lr_scheduler": (Spelling("train.scheduler", _named({"WarmupDecayLR": "warmup_decay"})),),
    "lr_scheduler_type": (Spelling("train.scheduler", _named({"WarmupDecayLR": "warmup_decay"})),),
    "warmup_ratio": (Spelling("train.warmup", _share),),
    "warmup_steps": (Spelling("train.warmup"),),
    "optim": (Spelling("train.optimizer", _named(_OPTIMIZERS)),),
    "optimizer": (Spelling("train.optimizer", _named(_OPTIMIZERS)),),
    "adam_beta1": (Spelling("train.adam_beta1"),),
    "adam_beta2": (Spelling("train.adam_beta2"),),
    "adam_epsilon": (Spelling("train.adam_epsilon"),),
    "weight_decay": (Spelling("train.weight_decay"),),
    "max_grad_norm": (Spelling("train.max_grad_norm"),),
    "fp16": (Spelling("train.precision", _when_true("fp16")),),
    "bf16": (Spelling("train.precision", _when_true("bf16")),),
    "sequence_len": (Spelling("train.max_length"),),
    "model_max_length": (Spelling("train.max_length"),),
    "max_seq_length": (Spelling("train.max_length"),),
    "max_length": (Spelling("train.max_length"),),
    "sample_packing": (Spelling("train.packing"),),
    "packing": (Spelling("train.packing"),),
    "group_by_length": (Spelling("train.group_by_length"),),
    "gradient_checkpointing": (Spelling("train.gradient_checkpointing"),),
    "activation_checkpointing": (Spelling("train.gradient_checkpointing"),),
    "use_cache": (Spelling("", _only(False, True, why=_NO_EFFECT)),),
    "evaluation_strategy": (Spelling("train.eval_every", _evaluations),),
    "eval_strategy": (Spelling("train.eval_every", _evaluations),),
    "eval_steps": (Spelling("train.eval_every"),),
    "save_strategy": (Spelling("train.save_every", _evaluations),),
    "save_steps": (Spelling("train.save_every"),),
    "save_interval": (
        Spelling(
            "train.save_every",
            _interval,
            "axolotl has no such key; it is read as epochs",
        ),
    ),
    "save_total_limit": (Spelling("train.keep_checkpoints"),),
    "load_best_model_at_end": (Spelling("train.best"),),
    "early_stopping_patience": (Spelling("train.early_stop"),),
    "resume_from_checkpoint": (
        Spelling("", _only(False, why="is said on the command line: --resume")),
    ),
    "deepspeed": (Spelling("train.deepspeed", _same),),
    "seed": (Spelling("train.seed"),),
    "output_dir": (Spelling("output"),),
    "overwrite_output_dir": (Spelling("", _only(False, True, why=_NO_EFFECT)),),
    "push_to_hub": (Spelling("", _only(False, why="is said on the command line: --push")),),
    # tracking
    "report_to": (Spelling("tracking.report_to", lambda v, _: [v] if isinstance(v, str) else v),),
    "logging_dir": (Spelling("tracking.folder"),),
    "logging_steps": (Spelling("tracking.every"),),
    "logging_strategy": (
        Spelling("", _only("epoch", "steps", why=_NO_EFFECT), "every step is kept"),
    ),
    "wandb_project": (
        Spelling("tracking.wandb.project", _same, "`tracking.report_to` says whether to go there"),
    ),
    "wandb_entity": (Spelling("tracking.wandb.entity", _same),),
    "wandb_watch": (Spelling("tracking.wandb.watch", _named(_WANDB_WORDS)),),
    "wandb_log_model": (Spelling("tracking.wandb.log_model", _named(_WANDB_WORDS)),),
}

# Sections under which others keep these keys.
SECTIONS = ("training_args", "lora_config", "peft_config", "bnb_config", "quantization_config")
