"""`transformers.Trainer` with the loss on answers only, and our own order and printing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from transformers import PrinterCallback, Trainer, TrainerCallback

from . import processes
from .arguments import training_arguments
from .checkpoints import WEIGHTS_FILE, load_trained, save_trained
from .collator import Collator
from .cross_entropy import linear_cross_entropy
from .dealing import DealtSampler
from .flat import FlatCollator, passes
from .packing import Pack, PackCollator
from .sampler import LengthGroupedSampler
from .samples import IGNORED, Sample
from .schedules import warmup_decay
from .train_settings import TrainSettings

Row = Sample | Pack


class AnswerTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """Trains on `Sample`s; logits are computed only where some row has an answer token."""

    # `compute_loss` divides by the answer tokens of the whole accumulated batch.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        settings: TrainSettings,
        *,
        train: Sequence[Row],
        validation: Sequence[Row],
        collator: Collator | PackCollator | FlatCollator,
        folder: Path,
        callbacks: Sequence[TrainerCallback],
        identity: str = "",
        shuffle: bool = True,
        resumes: bool = False,
    ) -> None:
        """`folder` takes the checkpoints, each marked with the run's `identity`; `resumes` says
        that `train` will be given one.
        """
        self._settings = settings
        self._identity = identity
        self._shuffle = shuffle
        arguments = training_arguments(
            settings,
            folder,
            len(train),
            validates=bool(validation),
            resumes=resumes,
            flat=isinstance(collator, FlatCollator),
        )
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=validation or None,
            data_collator=collator,
            callbacks=list(callbacks),
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
        """Cross entropy over answer tokens, a chunk's logits at a time; over a vocabulary of 49,152
        the logits of prompt tokens would cost a quarter of a step on a CPU.

        In training the sum is divided by `num_items_in_batch` (the answer tokens of all
        accumulated batches on all devices), in evaluation by the batch's own answer tokens.
        """
        pieces = list(passes(inputs))
        found = [self._summed(model, piece) for piece in pieces]
        loss = torch.stack([total for total, _ in found]).sum()
        if num_items_in_batch is None:
            count = sum((piece["labels"][:, 1:] != IGNORED).sum() for piece in pieces)
            loss = loss / torch.as_tensor(count).clamp(min=1)
        else:
            # Gradients are averaged over processes, but the count already covers all of them.
            loss = loss / num_items_in_batch * self.accelerator.num_processes
        return (loss, found[-1][1]) if return_outputs else loss

    def _summed(self, model: torch.nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor, Any]:
        """One forward pass: the cross entropy of its answer tokens, and what the model gave."""
        labels = inputs.pop("labels")[:, 1:]  # the logits at a position are for the next token
        kept = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)
        cache = self._prefix_cache(model, inputs)
        head, labels = self._head(), labels[:, kept]
        with _left_out(head):
            outputs = model(
                **inputs, past_key_values=cache, use_cache=cache is not None, logits_to_keep=kept
            )
        last = outputs.logits.flatten(0, 1)  # [batch · kept, vocab], or hidden states without head
        if head is None:
            loss = F.cross_entropy(
                last.float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
            )
        else:
            loss = linear_cross_entropy(last, head.weight, labels.flatten())
        return loss, outputs

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Forward and backward of each pass in turn; gradients are exchanged in the last one."""
        *early, last = passes(inputs)
        total = torch.zeros((), device=self.args.device)
        for piece in early:
            with self.accelerator.no_sync(model):
                total += super().training_step(model, piece, num_items_in_batch)
        total += super().training_step(model, last, num_items_in_batch)
        return total

    def _head(self) -> torch.nn.Linear | None:
        """The layer that makes logits; None where its weight is only there while it runs."""
        if self.is_deepspeed_enabled:
            return None
        head = self.accelerator.unwrap_model(self.model).get_output_embeddings()
        return head if type(head) is torch.nn.Linear else None

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

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """DeepSpeed's schedule is ours; all others are transformers'."""
        if self._settings.scheduler == "warmup_decay" and not self.lr_scheduler:
            self.lr_scheduler: Any = warmup_decay(
                optimizer or self.optimizer,
                warmup=self.args.get_warmup_steps(num_training_steps),
                total=num_training_steps,
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Only what was trained, not the base again; DeepSpeed gives weights put together."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model)
        save_trained(model, folder / WEIGHTS_FILE, identity=self._identity, whole=state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        unwrapped = self.accelerator.unwrap_model(model or self.model)
        file = Path(resume_from_checkpoint) / WEIGHTS_FILE
        load_trained(unwrapped, file, identity=self._identity)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        settings, lengths = self._settings, [len(row) for row in rows]
        per_process = settings.batch_size * settings.gradient_accumulation
        order: torch.utils.data.Sampler[int] = torch.utils.data.SequentialSampler(rows)
        if self._shuffle:
            order = LengthGroupedSampler(
                lengths,
                batch_size=per_process * processes.count(),
                seed=settings.seed,
                grouped=settings.group_by_length,
            )
        if not isinstance(self.data_collator, FlatCollator) or processes.count() == 1:
            return order
        return DealtSampler(order, lengths, per_process=per_process, processes=processes.count())


@contextmanager
def _left_out(head: torch.nn.Linear | None) -> Iterator[None]:
    """The model's last layer hands its input on."""
    if head is None:
        yield
        return
    head.__dict__["forward"] = lambda hidden: hidden
    try:
        yield
    finally:
        del head.__dict__["forward"]
