"""One run, from a checked recipe to an adapter folder: load, ask, train, save, ask again."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer, set_seed

from registry.bases import BaseRecord, read_base
from registry.errors import RegistryError

from .callback import CurveCallback
from .card import write_card
from .collator import Collator
from .errors import BaseError
from .evaluation import Score, score
from .examples import Example, Examples
from .export import target_modules, write_adapter
from .generation import Generator
from .metrics import Metrics
from .model import attach, count_parameters, load_base, lora_config, reload
from .output import atomic_folder
from .plots import plot_losses
from .progress import Curves, Progressing
from .provenance import make_lock, portable_recipe
from .receipt import MAX_TOKENS, NUM_PROBES, make_receipt, write_receipt
from .recipe import Recipe
from .rendering import Renderer, Sample, render_samples
from .trainer import AnswerTrainer, num_steps

RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class Run:
    """What one run works on. `base` is the base's folder, `commit` of the recipe's repository."""

    recipe: Recipe
    examples: Examples
    base: Path
    commit: str | None
    progress: Progressing

    def execute(self) -> Metrics:
        """Train, measure and write the adapter folder.

        It appears whole or not at all. Raises a `TrainingError`.
        """
        train, validation = self._samples()
        progress = self.progress
        set_seed(self.recipe.train.seed)
        with progress.phase("load", f"loading {self.record.name} in NF4"):
            model = load_base(self.base, self.recipe.train)
        before = self._score(model, "before", "asking the bare base the held-out questions")
        model = attach(
            model,
            lora_config(self.recipe.lora),
            self.record,
            checkpointing=self.recipe.train.gradient_checkpointing,
        )
        trainable = count_parameters(model)
        text = f"training {trainable:,} parameters on {len(train):,} rows"
        with progress.phase("train", text):
            curves = self._train(model, train, validation)
        with atomic_folder(self.recipe.output) as folder:
            write_adapter(model, folder)
            modules = target_modules(model)
            model = reload(model, folder)
            after = self._score(model, "after", "asking the saved adapter the same questions")
            with progress.phase("receipt", "writing the receipt"):
                write_receipt(self._receipt(model), folder)
            metrics = self._metrics(curves, before, after, len(train), trainable)
            self._write(folder, metrics, modules)
        return metrics

    @cached_property
    def record(self) -> BaseRecord:
        """Who the base is."""
        try:
            return read_base(self.base)
        except RegistryError as error:
            raise BaseError(error.message) from error

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return AutoTokenizer.from_pretrained(self.base)
        except (OSError, ValueError) as error:
            raise BaseError(f"{self.base} has no tokenizer that can be read: {error}") from error

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self._tokenizer, self.recipe.hat.hat())

    @cached_property
    def _asked(self) -> tuple[Example, ...]:
        """The rows for exact match; without held-out rows, those of validation."""
        rows = self.examples.heldout or self.examples.validation
        return rows[: self.recipe.evaluate.rows]

    @property
    def _probes(self) -> tuple[Example, ...]:
        return (self._asked or self.examples.train)[:NUM_PROBES]

    def _samples(self) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        examples = self.examples
        train = render_samples(examples.train, self._renderer, self.recipe)
        return train, render_samples(examples.validation, self._renderer, self.recipe)

    def _generator(self, model: Any, max_tokens: int) -> Generator:
        hat, batch_size = self.recipe.hat, self.recipe.evaluate.batch_size
        return Generator(model, self._tokenizer, hat.stop, max_tokens, batch_size)

    def _score(self, model: Any, phase: str, text: str) -> Score | None:
        if not self._asked:
            return None
        with self.progress.phase(phase, text):
            model.eval()
            generator = self._generator(model, self.recipe.max_answer_tokens)
            return score(self._asked, self._renderer, generator)

    def _train(
        self, model: Any, train: tuple[Sample, ...], validation: tuple[Sample, ...]
    ) -> Curves:
        settings = self.recipe.train
        with (
            tempfile.TemporaryDirectory() as scratch,  # Trainer wants a folder; nothing stays there
            self.progress.training(num_steps(settings, len(train))) as bar,
        ):
            callback = CurveCallback(bar)
            AnswerTrainer(
                model,
                settings,
                train=train,
                validation=validation,
                collator=self._collator(model),
                folder=Path(scratch),
                callback=callback,
            ).train()
        return callback.curves

    def _collator(self, model: Any) -> Collator:
        """Pads with EOS, which positions and not ids keep out of loss and attention."""
        settings = self.recipe.train
        window = getattr(model.config, "sliding_window", None)
        # A prefix is computed into a cache: checkpointed layers keep none, and a sliding window
        # drops its oldest part.
        share = not settings.gradient_checkpointing and (
            not window or window >= settings.max_length
        )
        return Collator(int(self._tokenizer.eos_token_id), share_prefix=share)

    def _receipt(self, model: Any) -> dict[str, Any]:
        return make_receipt(self._probes, self._renderer, self._generator(model, MAX_TOKENS))

    def _metrics(
        self, curves: Curves, before: Score | None, after: Score | None, rows: int, trainable: int
    ) -> Metrics:
        return Metrics(
            curves=curves,
            before=before,
            after=after,
            questions=tuple(example.prompt[-1]["content"] for example in self._asked),
            wanted=tuple(example.answer for example in self._asked),
            num_train_rows=rows,
            num_trainable=trainable,
            seconds=self.progress.seconds,
        )

    def _write(self, folder: Path, metrics: Metrics, modules: list[str]) -> None:
        """Everything beside weights, configuration and receipt."""
        recipe, record = self.recipe, self.record
        recipe.hat.hat().write(folder)
        make_lock(
            recipe,
            record,
            self._renderer,
            data=self.examples.digests,
            golden=[example.prompt for example in self._probes[:1]],
            tokenizer=self.base / "tokenizer.json",
            target_modules=modules,
            metrics=metrics.numbers,
            commit=self.commit,
        ).write(folder)
        values = {**portable_recipe(recipe), "output": recipe.output.name}
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        (folder / RECIPE_FILE).write_text(text, encoding="utf-8")
        write_card(recipe, record, metrics, folder)
        plot_losses(metrics.curves, folder / "loss.png", title=recipe.output.name)
        metrics.write(folder)
