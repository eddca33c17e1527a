"""A recipe's section `train` in transformers' own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from . import processes
from .precision import autocast
from .steps import num_steps
from .train_settings import Every, TrainSettings
from .zero import configuration

_OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "paged_adamw_32bit": "paged_adamw_32bit",
    "sgd": "sgd",
    "adafactor": "adafactor",
}
_EVALUATIONS = 4  # validation passes in a run, unless the recipe says how many steps apart


def training_arguments(
    settings: TrainSettings,
    folder: Path,
    num_rows: int,
    *,
    validates: bool,
    resumes: bool = False,
    flat: bool = False,
) -> TrainingArguments:
    """Of a run over `num_rows` rows; a `flat` batch has the rows of a whole step."""
    steps = num_steps(settings, num_rows, processes.count())
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        seed=settings.seed,
        **_batches(settings, flat=flat),
        **_optimization(settings),
        **_hardware(settings),
        **_validation(settings, steps, validates=validates, resumes=resumes),
        save_strategy=_strategy(settings.save_every),
        save_steps=_interval(settings.save_every, 1),
        save_total_limit=settings.keep_checkpoints,
        logging_steps=1,
        include_num_input_tokens_seen="all",  # for the pace
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        report_to="none",
        disable_tqdm=True,
    )
    # A process trains on one GPU. On all that it sees, transformers would cut a batch in pieces by
    # its first dimension (DataParallel), which one of rows behind one another is not to be cut by.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _batches(settings: TrainSettings, *, flat: bool) -> dict[str, Any]:
    accumulated = settings.gradient_accumulation
    return {
        "per_device_train_batch_size": settings.batch_size * (accumulated if flat else 1),
        "per_device_eval_batch_size": settings.eval_batch_size or max(settings.batch_size, 16),
        "gradient_accumulation_steps": 1 if flat else accumulated,
        "remove_unused_columns": False,  # samples are no dictionaries
        "label_names": ["labels"],
    }


def _optimization(settings: TrainSettings) -> dict[str, Any]:
    scheduler = settings.scheduler
    return {
        "learning_rate": settings.learning_rate,
        # Ours is made in `create_scheduler`; a name that transformers knows must stand here.
        "lr_scheduler_type": "linear" if scheduler == "warmup_decay" else scheduler,
        # Below 1 it is a share of all steps.
        "warmup_steps": settings.warmup if settings.warmup < 1 else int(settings.warmup),
        "optim": _OPTIMIZERS[settings.optimizer],
        "adam_beta1": settings.adam_beta1,
        "adam_beta2": settings.adam_beta2,
        "adam_epsilon": settings.adam_epsilon,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
    }


def _hardware(settings: TrainSettings) -> dict[str, Any]:
    """Numbers, devices, and how processes share the work."""
    cuda = torch.cuda.is_available()
    precision = autocast(settings.precision)
    return {
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "ddp_backend": processes.backend(),
        "ddp_find_unused_parameters": False,  # each takes part in every pass
        "deepspeed": None if settings.deepspeed is None else configuration(settings.deepspeed),
    }


def _validation(
    settings: TrainSettings, steps: int, *, validates: bool, resumes: bool
) -> dict[str, Any]:
    strategy = _strategy(settings.eval_every) if validates else "no"
    return {
        "eval_strategy": strategy,
        "eval_steps": _interval(settings.eval_every, steps),
        "eval_on_start": strategy != "no" and not resumes,
        "prediction_loss_only": True,
    }


def _strategy(every: Every | None) -> str:
    return {"epoch": "epoch", "never": "no"}.get(str(every), "steps")


def _interval(every: Every | None, steps: int) -> int:
    """Steps between two; where none are named, `_EVALUATIONS` in all."""
    return every if isinstance(every, int) else max(1, -(-steps // _EVALUATIONS))
