"""One run, from a checked recipe to an adapter folder: load, ask, train, save, ask again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoTokenizer, TrainerCallback, set_seed

from registry.bases import BaseRecord, read_base
from registry.canonical import digest_file
from registry.errors import RegistryError

from . import processes
from .card import write_card
from .checkpoints import identity_of
from .errors import BaseError, ForgetsTooMuch
from .evaluating.forgetting import Forgetting
from .evaluating.general import Window, read_text, windows
from .evaluating.likelihood import total
from .evaluating.pair import Pair
from .evaluation import Score, score
from .examples import Example, Examples
from .export import target_modules, write_adapter
from .fitting import Fitted, Fitting, Session
from .generation import Generator
from .lengths import Lengths
from .memory_use import free_memory
from .methods import Adapter, Method, method_for
from .metrics import Metrics
from .midway import MidwayAdapters
from .model import count_parameters, load_base, reload
from .output import atomic_folder
from .plots import plot_losses
from .progress import Progressing
from .provenance import make_lock, portable_recipe
from .receipt import MAX_TOKENS, NUM_CANDIDATES, make_receipt, write_receipt
from .recipe import Recipe
from .rendering import Renderer, render
from .samples import Sample, fit
from .tracking import following, keep

RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class Run:
    """What one run works on.

    `base` is the folder of the base that is trained on, `served` of the one that serves (mostly
    the same), `commit` that of the recipe's repository.
    """

    recipe: Recipe
    examples: Examples
    base: Path
    served: Path
    commit: str | None
    progress: Progressing
    session: Session

    def execute(self) -> Metrics:
        """Train, measure and write the adapter folder.

        It appears whole or not at all. Raises a `TrainingError`, and `Followed` in a process that
        is not the first of several; `ForgetsTooMuch` when the folder is there.
        """
        with following(self.recipe.tracking, self.recipe.output) as trackers:
            metrics = self._execute(trackers)
            keep(trackers, self.recipe.output)
        self._judge(metrics.forgetting)
        return metrics

    def _execute(self, trackers: Sequence[TrainerCallback]) -> Metrics:
        processes.take_device()
        whole = render(self.examples.train, self._renderer, self.recipe.data.loss)
        lengths = Lengths(whole, self.recipe.train.max_length, self.recipe.train.batch_size)
        self.progress.say(lengths.describe())
        train, validation, _ = self._fit(whole), self._validation(), self._general
        set_seed(self.recipe.train.seed)
        model, before = self._load()
        method = method_for(self.recipe, self.record, self.base)
        model = method.prepare(model)
        trainable = count_parameters(model)
        text = f"training {trainable:,} parameters on {len(train):,} rows"
        with self.progress.phase("train", text):
            fitted = self._fitting(method, trackers).fit(model, train, validation)
        with processes.whole(model):
            adapter = method.finish(model).kept()
        if not processes.is_first():
            raise processes.Followed
        with atomic_folder(self.recipe.output) as folder:
            write_adapter(adapter, folder)
            if not self._is_served_as_trained:
                del model
                free_memory()
                model = self._load_served()
            model = reload(model, folder)
            after = self._score(model, "after", "asking the saved adapter the same questions")
            with self.progress.phase("receipt", "writing the receipt"):
                write_receipt(self._receipt(model), folder)
            kept = self._forgetting(model)
            metrics = self._metrics(fitted, before, after, adapter, (len(train), trainable))
            metrics = replace(metrics, forgetting=kept)
            self._write(folder, metrics, adapter)
            lengths.plot(folder / "lengths.png", title=self.recipe.output.name)
        return metrics

    @cached_property
    def record(self) -> BaseRecord:
        """Who the base is that will serve."""
        try:
            return read_base(self.served)
        except RegistryError as error:
            raise BaseError(error.message) from error

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return AutoTokenizer.from_pretrained(self.served)
        except (OSError, ValueError) as error:
            raise BaseError(f"{self.served} has no tokenizer that can be read: {error}") from error

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self._tokenizer, self.recipe.hat.hat())

    @cached_property
    def _asked(self) -> tuple[Example, ...]:
        """The rows for exact match; without held-out rows, those of validation."""
        rows = self.examples.heldout or self.examples.validation
        return tuple(row for row in rows if row.prompt)[: self.recipe.evaluate.rows]

    @cached_property
    def _general(self) -> tuple[Window, ...]:
        """The text that shows what is forgotten; nothing where the recipe does not ask."""
        settings = self.recipe.forgetting
        return () if settings is None else windows(read_text(settings.data), self._tokenizer)

    @property
    def _digests(self) -> dict[str, str]:
        """Of every file that the run reads, by name."""
        settings, digests = self.recipe.forgetting, dict(self.examples.digests)
        if settings is not None and settings.data is not None:
            digests[settings.data.name] = digest_file(settings.data)
        return digests

    @cached_property
    def _candidates(self) -> tuple[Example, ...]:
        """What a receipt may ask: rows that were asked, then those of training, each once."""
        found: list[Example] = []
        for example in chain(self._asked, map(_question, self.examples.train)):
            if all(example.prompt != other.prompt for other in found):
                found.append(example)
            if len(found) == NUM_CANDIDATES:
                break
        return tuple(found)

    @property
    def _is_served_as_trained(self) -> bool:
        """Whether the model in training holds the very weights that will serve."""
        recipe, load = self.recipe, self.recipe.load
        exact = load.quantization == "nf4" and load.double_quantization
        multiplied = load.compute_dtype in ("auto", "bfloat16")
        return recipe.method == "lora" and exact and multiplied and self.base == self.served

    def _fitting(self, method: Method, trackers: Sequence[TrainerCallback]) -> Fitting:
        pad = int(self._tokenizer.eos_token_id)
        identity = identity_of(self.recipe, self.examples.digests)
        session = self.session
        is_made_at_once = self.recipe.method == "lora" and not self.recipe.lora.dora
        if session.publish is not None and is_made_at_once:
            midway = MidwayAdapters(method, self._describe, session.publish)
            session = replace(session, callbacks=(*session.callbacks, midway))
        return Fitting(self.recipe, pad, self.progress, session, identity, tuple(trackers))

    def _fit(self, samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return fit(samples, self.recipe.train.max_length, self.recipe.data.too_long)

    def _validation(self) -> tuple[Sample, ...]:
        return self._fit(render(self.examples.validation, self._renderer, self.recipe.data.loss))

    def _load(self) -> tuple[Any, Score | None]:
        """The model to train, and what the bare base that serves answers."""
        text = "asking the bare base the held-out questions"
        if self._is_served_as_trained:
            model = self._load_served()
            return model, self._score(model, "before", text)
        before = self._score(self._load_served(), "before", text) if self._asked else None
        free_memory()
        recipe = self.recipe
        # All weights are trained in fp32; DeepSpeed keeps such copies itself.
        in_fp32 = recipe.method == "full" and recipe.train.deepspeed is None
        how = "16 bit" if recipe.load.quantization == "none" else recipe.load.quantization.upper()
        with self.progress.phase("load", f"loading {self.base.name} in {how}"):
            model = load_base(
                self.base,
                recipe.load,
                max_length=recipe.train.max_length,
                dtype=torch.float32 if in_fp32 else None,
            )
        return model, before

    def _load_served(self) -> Any:
        with self.progress.phase("load", f"loading {self.record.name} in NF4"):
            return load_base(self.served, max_length=self.recipe.train.max_length)

    def _generator(self, model: Any, max_tokens: int) -> Generator:
        hat, batch_size = self.recipe.hat, self.recipe.evaluate.batch_size
        return Generator(model, self._tokenizer, hat.stop, max_tokens, batch_size)

    def _score(self, model: Any, phase: str, text: str) -> Score | None:
        if not self._asked or not processes.is_first():
            return None
        with self.progress.phase(phase, text):
            model.eval()
            generator = self._generator(model, self.recipe.max_answer_tokens)
            return score(self._asked, self._renderer, generator)

    def _forgetting(self, model: Any) -> Forgetting | None:
        settings = self.recipe.forgetting
        if settings is None:
            return None
        text = "reading general text without and with the adapter"
        with self.progress.phase("forgetting", text):
            base, adapter = Pair(model.eval(), self.recipe.evaluate.batch_size).measure(
                self._general
            )
        return Forgetting(total(base), total(adapter), settings.budget)

    def _judge(self, kept: Forgetting | None) -> None:
        """Say what was forgotten; whether too much of it is an error, the recipe decides."""
        settings = self.recipe.forgetting
        if kept is None or settings is None:
            return
        if kept.is_kept:
            self.progress.say(str(kept))
        elif settings.over_budget == "warn":
            self.progress.warn(f"it forgets more than `forgetting.budget`: {kept}")
        else:
            name = self.recipe.output.name
            raise ForgetsTooMuch(f"{name} forgets more than `forgetting.budget`: {kept}")

    def _receipt(self, model: Any) -> dict[str, Any]:
        return make_receipt(self._candidates, self._renderer, self._generator(model, MAX_TOKENS))

    def _metrics(
        self,
        fitted: Fitted,
        before: Score | None,
        after: Score | None,
        adapter: Adapter,
        sizes: tuple[int, int],
    ) -> Metrics:
        return Metrics(
            curves=fitted.curves,
            before=before,
            after=after,
            questions=tuple(example.prompt[-1]["content"] for example in self._asked),
            wanted=tuple(example.answer for example in self._asked),
            num_train_rows=sizes[0],
            num_trainable=sizes[1],
            seconds=self.progress.seconds,
            saved_step=fitted.step,
            captured=adapter.captured,
        )

    def _write(self, folder: Path, metrics: Metrics, adapter: Adapter) -> None:
        """Everything beside weights, configuration and receipt."""
        recipe, record = self.recipe, self.record
        self._describe(folder, adapter, metrics.numbers)
        write_card(recipe, record, metrics, folder)
        plot_losses(
            metrics.curves, folder / "loss.png", title=recipe.output.name, best=metrics.best
        )
        metrics.write(folder)

    def _describe(self, folder: Path, adapter: Adapter, figures: dict[str, float]) -> None:
        """What says how an adapter came about and is to be asked: hat, lock, recipe."""
        recipe, record = self.recipe, self.record
        recipe.hat.hat().write(folder)
        make_lock(
            recipe,
            record,
            self._renderer,
            data=self._digests,
            golden=[example.prompt for example in self._candidates[:1]],
            tokenizer=self.served / "tokenizer.json",
            target_modules=target_modules(adapter.config),
            metrics=figures,
            commit=self.commit,
        ).write(folder)
        values = {**portable_recipe(recipe), "output": recipe.output.name}
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        (folder / RECIPE_FILE).write_text(text, encoding="utf-8")


def _question(example: Example) -> Example:
    """Something to ask after a plain text: its first words."""
    if example.prompt:
        return example
    words = " ".join(example.answer.split()[:8])
    return Example(example.place, ({"role": "user", "content": words},), example.answer)
