"""`transformers.Trainer` with the loss on answers only, and our own order and printing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from .collator import Collator
from .model import compute_dtype
from .recipe import TrainSettings
from .rendering import IGNORED, Sample
from .sampler import LengthGroupedSampler

_OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "paged_adamw_32bit": "paged_adamw_32bit",
    "sgd": "sgd",
    "adafactor": "adafactor",
}
_EVALUATIONS = 4  # validation passes in a run, unless the recipe says how many steps apart


class AnswerTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """Trains on `Sample`s; logits are computed only where some row has an answer token."""

    # `compute_loss` divides by the answer tokens of the whole accumulated batch.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        settings: TrainSettings,
        *,
        train: tuple[Sample, ...],
        validation: tuple[Sample, ...],
        collator: Collator,
        folder: Path,
        callback: TrainerCallback,
    ) -> None:
        self._settings = settings
        super().__init__(
            model=model,
            args=_arguments(settings, folder, len(train), validates=bool(validation)),
            train_dataset=train,
            eval_dataset=validation or None,
            data_collator=collator,
            callbacks=[callback],
        )
        self.remove_callback(PrinterCallback)
        # Asks Trainer to count the answer tokens, which it does for models that take the count.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Cross entropy over answer tokens; over a vocabulary of 49,152 the logits of prompt
        tokens would cost a quarter of a step on a CPU.

        In training the sum is divided by `num_items_in_batch` (the answer tokens of all
        accumulated batches on all devices), in evaluation by the batch's own answer tokens.
        """
        inputs = dict(inputs)
        labels = inputs.pop("labels")[:, 1:]  # the logits at a position are for the next token
        kept = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)
        cache = self._prefix_cache(model, inputs)
        outputs = model(
            **inputs, past_key_values=cache, use_cache=cache is not None, logits_to_keep=kept
        )
        logits, labels = outputs.logits.float(), labels[:, kept]  # [batch, kept, vocab]
        loss = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if num_items_in_batch is None:
            loss = loss / (labels != IGNORED).sum().clamp(min=1)
        else:
            # Gradients are averaged over processes, but the count already covers all of them.
            loss = loss / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    @staticmethod
    def _prefix_cache(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> Any:
        """Keys and values of what all rows begin with, computed once and repeated for each row.

        Causal attention makes this exact, and gradients flow back through the repetition.
        """
        prefix = inputs.pop("prefix_ids", None)
        if prefix is None:
            return None
        cache = model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(inputs["input_ids"].shape[0])
        return cache

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        if not self._settings.group_by_length:
            sampler: torch.utils.data.Sampler[int] | None = super()._get_train_sampler(
                train_dataset
            )
            return sampler
        samples = self.train_dataset if train_dataset is None else train_dataset
        return LengthGroupedSampler(
            [len(sample) for sample in samples],
            batch_size=self._settings.batch_size * self._settings.gradient_accumulation,
            seed=self._settings.seed,
        )


def num_steps(settings: TrainSettings, num_rows: int) -> int:
    """Optimizer steps in the whole run."""
    if settings.max_steps is not None:
        return settings.max_steps
    batches = -(-num_rows // settings.batch_size)
    per_epoch = -(-batches // settings.gradient_accumulation)
    return math.ceil(per_epoch * settings.epochs)


def _arguments(
    settings: TrainSettings, folder: Path, num_rows: int, *, validates: bool
) -> TrainingArguments:
    steps = num_steps(settings, num_rows)
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=max(settings.batch_size, 16),
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        # Below 1 it is a share of all steps.
        warmup_steps=settings.warmup if settings.warmup < 1 else int(settings.warmup),
        optim=_OPTIMIZERS[settings.optimizer],
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        bf16=compute_dtype() is torch.bfloat16,
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        eval_strategy="steps" if validates else "no",
        eval_steps=settings.eval_every or max(1, -(-steps // _EVALUATIONS)),
        eval_on_start=validates,
        prediction_loss_only=True,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,  # samples are no dictionaries
        label_names=["labels"],
    )
