"""One job from its files to a version in the registry."""

from __future__ import annotations

import csv
import io
import logging
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from registry.errors import RegistryError, VersionInUse
from registry.opening import open_registry
from registry.references import Reference
from registry.tuning import Job, Queue
from registry.tuning.claims import Claims
from registry.tuning.files import RESULTS
from registry.tuning.statuses import CHECKPOINTS
from training.errors import (
    DataError,
    ForgetsTooMuch,
    PushError,
    RecipeError,
    TrainingDiverged,
    TrainingError,
    TrainingStopped,
)
from training.examples import read_examples
from training.progress import Progressing
from training.push import push

from .following import JobCallback, signs_of_life
from .recipes import TRAIN_FILE, VALIDATION_FILE, recipe_for
from .retention import Retention

if TYPE_CHECKING:
    from registry.versions import Version
    from training.metrics import Metrics
    from training.progress import Curves
    from training.recipe import Recipe

logger = logging.getLogger(__name__)

# What a caller reads of an error, and which of its parameters is at fault.
_CODES: Mapping[type[TrainingError], tuple[str, str | None]] = {
    DataError: ("invalid_training_file", "training_file"),
    RecipeError: ("invalid_recipe", "recipe"),
    TrainingDiverged: ("training_diverged", None),
    PushError: ("push_failed", None),
    ForgetsTooMuch: ("forgets_too_much", None),
}


@dataclass(frozen=True)
class Working:
    """Carries jobs out over one base. `folder` is for files and checkpoints of jobs in hand;
    `retention` says which checkpoints stay versions in the registry.

    Once `ending` is set, a job in hand stops at its next step and goes back into the queue.
    """

    queue: Queue
    claims: Claims
    base: Path
    registry: Path | str | None
    folder: Path
    ending: threading.Event
    console: Console
    retention: Retention

    def carry_out(self, job: Job) -> None:
        """Run a job that was taken; whatever comes of it is in the queue afterwards."""
        folder = self.folder / job.id
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with signs_of_life(self.claims, job):
                self._run(job, folder)
        except TrainingStopped:
            self._stopped(job)
        except (TrainingError, RegistryError) as error:
            self._failed(job, error, folder)
        except Exception:  # a job must not end its worker, and its caller not read our insides
            logger.exception("%s failed", job.id)
            message = "The worker made a mistake. Its log has the details."
            self.claims.fail(job, code="internal_error", message=message)
        if self.queue.jobs.get(job.id).status not in ("paused", "queued"):
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, job: Job, folder: Path) -> None:
        self.queue.files.copy_to(job.training_file, folder / TRAIN_FILE)
        if job.validation_file is not None:
            self.queue.files.copy_to(job.validation_file, folder / VALIDATION_FILE)
        recipe = recipe_for(job, self.base, folder)
        callback = JobCallback(self.claims, job, lambda: self._is_wanted(job))
        metrics = self._train(job, recipe, callback)
        if not self._is_wanted(job):  # nothing is pushed that was cancelled meanwhile
            raise TrainingStopped("stopped after training")
        version = push(recipe.output, Reference(job.adapter), self.registry)
        self._succeeded(job, version, metrics, callback)

    def _train(self, job: Job, recipe: Recipe, callback: JobCallback) -> Metrics:
        from training.fitting import Session
        from training.run import Run

        examples = read_examples(recipe.data)
        self.claims.note(job, f"Files validated: {len(examples.train)} rows to train on")
        checkpoints = self.folder / job.id / "checkpoints"

        def publish(folder: Path, step: int) -> None:
            self._push_checkpoint(job, folder, step, callback)

        session = Session(True, checkpoints, (callback,), publish)
        progress = Progressing(self.console)
        return Run(recipe, examples, self.base, self.base, None, progress, session).execute()

    def _push_checkpoint(self, job: Job, folder: Path, step: int, callback: JobCallback) -> None:
        """Make a checkpoint a version of an adapter of its own: it must not be the newest of the
        job's, which requests by its bare name get.
        """
        try:
            version = push(folder, Reference(job.adapter + CHECKPOINTS), self.registry)
        except TrainingError as error:  # nothing is learned yet, or the registry is away
            message = error.message.replace(str(folder), f"step {step}")
            self.claims.note(job, f"The checkpoint has no model: {message}", level="warn")
        else:
            self.claims.saved(job, step, callback.figures, version.ref)
            self._withdraw_superfluous(job)

    def _withdraw_superfluous(self, job: Job) -> None:
        """What is withdrawn, the registry's next collections remove."""
        store = open_registry(self.registry)
        for each in self.retention.superfluous(self.queue.records.published(job.id)):
            assert each.model is not None
            try:
                store.withdraw(each.model, why=f"{job.id} has newer checkpoints, and a better one")
            except VersionInUse:  # somebody has put an alias on it: it stays
                continue
            except RegistryError as error:  # the job is not to fail for that
                logger.warning("%s is not withdrawn: %s", each.model, error.message)
                return
            self.claims.withdrawn(each.model)

    def _is_wanted(self, job: Job) -> bool:
        return not self.ending.is_set() and self.claims.keep(job)

    def _stopped(self, job: Job) -> None:
        if self.claims.status(job) == "running":
            self.claims.give_back(job, "Worker ends: the job goes back into the queue")
        else:
            self.claims.release(job)

    def _succeeded(
        self, job: Job, version: Version, metrics: Metrics, callback: JobCallback
    ) -> None:
        last = metrics.curves.train[-1][0]
        self.claims.saved(job, last, callback.figures, version.ref)
        rows = _step_metrics(metrics.curves)
        results = self.queue.files.add("step_metrics.csv", RESULTS, [rows.encode()])
        self.claims.succeed(
            job, version.ref, result_file=results.id, trained_tokens=callback.num_tokens
        )

    def _failed(self, job: Job, error: TrainingError | RegistryError, folder: Path) -> None:
        message = error.message.replace(f"{folder}/", "")  # where it lies here is nobody's matter
        if isinstance(error, RegistryError):
            self.claims.fail(job, code=error.code, message=message, param=error.param)
            return
        code, param = _CODES.get(type(error), ("training_failed", None))
        self.claims.fail(job, code=code, message=message, param=param)


def _step_metrics(curves: Curves) -> str:
    """OpenAI's result file: a line a step."""
    validation, rates = dict(curves.validation), dict(curves.learning_rate)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("step", "train_loss", "valid_loss", "learning_rate"))
    for step, loss in curves.train:
        writer.writerow((step, loss, validation.get(step, ""), rates.get(step, "")))
    return text.getvalue()
