"""The training itself: rows in batches, steps, checkpoints, and the weights to keep."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from . import checkpoints, processes
from .best import BestWeights
from .callback import CurveCallback
from .collator import Collator
from .flat import FlatCollator
from .fused import fused
from .layer_choice import has_flash_attention, is_on
from .midway import Publish
from .packing import PackCollator, pack
from .progress import Curves, Progressing
from .recipe import Recipe
from .samples import Sample
from .steps import num_steps
from .trainer import AnswerTrainer, Row


@dataclass(frozen=True)
class Fitted:
    """What training left beside the weights: its curves, and the step that the weights are of."""

    curves: Curves
    step: int


@dataclass(frozen=True)
class Session:
    """What is so in one call and not in the recipe.

    With `resume`, training goes on from the newest checkpoint, if there is one. Checkpoints lie in
    `work` (None: beside the output, and nowhere if the recipe asks for none). `publish` takes the
    adapters of checkpoints, where the method makes them without loading anything.
    """

    resume: bool = False
    work: Path | None = None
    callbacks: tuple[TrainerCallback, ...] = ()
    publish: Publish | None = None


@dataclass(frozen=True)
class Fitting:
    """Trains a prepared model by `recipe`. `pad_token_id` may be any token's; `identity` says which
    runs may go on from each other's checkpoints.
    """

    recipe: Recipe
    pad_token_id: int
    progress: Progressing
    session: Session
    identity: str
    trackers: tuple[TrainerCallback, ...] = ()

    def fit(self, model: Any, train: Sequence[Sample], validation: Sequence[Sample]) -> Fitted:
        """Train `model` in place. Raises `TrainingDiverged`, or `OutputError` on resuming."""
        settings = self.recipe.train
        rows, held = self._rows(train), self._rows(validation)
        best = BestWeights(keep=settings.best, patience=settings.early_stop)
        with (
            self._folder() as folder,
            self._layers(model),
            self.progress.training(num_steps(settings, len(rows), processes.count())) as bar,
        ):
            start = checkpoints.newest(folder) if self.session.resume else None
            if start is not None:
                best.load(start)
            elif self.session.resume:
                self.progress.say(f"no checkpoint in {folder}: training from the beginning")
            curves = CurveCallback(bar)
            trainer = AnswerTrainer(
                model,
                settings,
                train=rows,
                validation=held,
                collator=self._collator(model),
                folder=folder,
                callbacks=[curves, best, *self.trackers, *self.session.callbacks],
                identity=self.identity,
                shuffle=self.recipe.data.shuffle,
                resumes=start is not None,
            )
            with self._interruptible(folder):
                trainer.train(resume_from_checkpoint=None if start is None else str(start))
        if settings.deepspeed is not None:
            processes.leave_deepspeed()
        step = int(trainer.state.global_step)
        if settings.best and best.step is not None:
            best.restore(model)
            step = best.step
        return Fitted(curves.curves, step)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """Where checkpoints go; a temporary folder where there are to be none."""
        work = self.session.work
        if work is None and self.recipe.train.save_every == "never":
            with tempfile.TemporaryDirectory() as scratch:
                yield Path(scratch)
            return
        folder = work or checkpoints.folder_for(self.recipe.output)
        if not self.session.resume and processes.is_first():
            checkpoints.clear(folder)
        yield folder

    @contextmanager
    def _interruptible(self, folder: Path) -> Iterator[None]:
        """Whoever presses Ctrl-C is told where --resume goes on."""
        try:
            yield
        except KeyboardInterrupt:
            newest = checkpoints.newest(folder)
            if newest is not None:
                self.progress.say(f"stopped; --resume goes on from {newest}")
            raise

    @contextmanager
    def _layers(self, model: Any) -> Iterator[None]:
        """With the model's layers fused, where the recipe has them so."""
        settings = self.recipe.train
        if not is_on(settings.fused, settings, on_gpu=has_flash_attention()):
            yield
            return
        with fused(model, flat=self._is_flat, checkpointed=settings.gradient_checkpointing):
            yield

    @property
    def _is_flat(self) -> bool:
        settings = self.recipe.train
        return is_on(settings.unpadded, settings, on_gpu=has_flash_attention())

    def _rows(self, samples: Sequence[Sample]) -> Sequence[Row]:
        settings = self.recipe.train
        return pack(samples, settings.max_length) if settings.packing else tuple(samples)

    def _collator(self, model: Any) -> Collator | PackCollator | FlatCollator:
        settings, data = self.recipe.train, self.recipe.data
        if self._is_flat:
            return FlatCollator(settings.batch_size * settings.max_length)
        length = settings.max_length if data.pad_to_max_length else None
        if settings.packing:
            return PackCollator(self.pad_token_id, length)
        return Collator(
            self.pad_token_id,
            share_prefix=self._shares_prefix(model),
            side=data.padding,
            length=length,
        )

    def _shares_prefix(self, model: torch.nn.Module) -> bool:
        """A prefix is computed into a cache: checkpointed layers keep none, a sliding window drops
        its oldest part, and a model spread over processes runs once a step, not twice.
        """
        settings = self.recipe.train
        config: Any = model.config
        window = getattr(config, "sliding_window", None)
        fits = not window or window >= settings.max_length
        alone = settings.deepspeed is None and not torch.distributed.is_initialized()
        return not settings.gradient_checkpointing and fits and alone
