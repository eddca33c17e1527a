"""What `hatstand train --plan` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from registry.bases import find_base
from registry.errors import RegistryError
from training.data_settings import TooLong
from training.errors import BaseError
from training.examples import read_examples
from training.foundation import prepare
from training.reading import read_recipe
from training.recipe import Recipe
from training.rendering import Renderer
from training.steps import num_steps, steps_per_epoch
from training.train_settings import TrainSettings

if TYPE_CHECKING:
    from .counting import Counts
    from .epoch import Epoch
    from .memory import Memory

_ANSWER_SHARE = 0.5  # of a row's tokens that are answer, where the rows are not there to be asked

_TOO_LONG: dict[TooLong, str] = {
    "error": "refused",
    "drop": "dropped",
    "left": "cut",
    "right": "cut",
}


@dataclass(frozen=True)
class Plan:
    """What a recipe comes to. Without the rows there is no `epoch`, and only with `train.max_steps`
    are there steps, tokens and a time.
    """

    recipe: Recipe
    counts: Counts
    memory: Memory
    seeds: dict[str, float]  # GB by method, as seed 002 counts
    epoch: Epoch | None
    num_steps: int | None
    num_tokens: int | None
    seconds: float | None
    teraflops: float  # measured on this device, before utilization

    def table(self, title: str) -> Table:
        """A line a figure."""
        table = Table(title=title, show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for name, value in self._lines():
            table.add_row(name, value)
        return table

    def _lines(self) -> list[tuple[str, str]]:
        counts, memory = self.counts, self.memory
        lines = [
            ("parameters of the base", f"{counts.base:,}"),
            ("trained parameters", f"{counts.trained:,} ({counts.share:.4%})"),
            ("memory: base weights", _gigabytes(memory.base)),
            ("memory: adapter", _gigabytes(memory.adapter)),
            ("memory: gradients", _gigabytes(memory.gradients)),
            ("memory: optimizer state", _gigabytes(memory.state)),
            ("memory: activations (estimate, rows full)", _gigabytes(memory.activations)),
            ("memory: working (estimate, rows full)", _gigabytes(memory.working)),
            ("memory: together", _gigabytes(memory.total)),
        ]
        lines += [(f"seeds' arithmetic: {how}", f"{gb:,.1f} GB") for how, gb in self.seeds.items()]
        return [*lines, *self._rows(), *self._work()]

    def _rows(self) -> list[tuple[str, str]]:
        if (epoch := self.epoch) is None:
            return []
        lines = [("rows", f"{epoch.num_rows:,}")]
        if (lengths := epoch.lengths) is None:
            return lines
        drawn = f" (of {epoch.num_read:,} drawn by `data.seed`)" if epoch.is_sampled else ""
        spread = f"{lengths.counts[0]} to {lengths.counts[-1]}, half up to {lengths.quantile(0.5)}"
        lines.append((f"tokens a row{drawn}", spread))
        if epoch.num_over:
            fate = _TOO_LONG[self.recipe.data.too_long]
            lines.append(("rows over `train.max_length`", f"{epoch.num_over:,}, {fate}"))
        if self.recipe.train.packing:
            lines.append(("packs of rows", f"{epoch.num_trained:,}"))
        return lines

    def _work(self) -> list[tuple[str, str]]:
        lines = []
        if self.num_steps is not None:
            lines.append(("steps", f"{self.num_steps:,}"))
        if self.num_tokens is not None and self.seconds is not None:
            are_known = self.epoch is not None and self.epoch.lengths is not None
            full = "" if are_known else ", rows full"
            pace = f"{self.teraflops:.2f} TFLOP/s measured here"
            lines.append((f"tokens, padding included (estimate{full})", f"{self.num_tokens:,}"))
            lines.append((f"time (estimate{full}, at {pace})", _duration(self.seconds)))
        return lines


def make_plan(recipe: Recipe) -> Plan:
    """Work a recipe out; needs its base's configuration, and no weights.

    Without the base's tokenizer, rows count as full. Raises `BaseError` when there is no
    configuration, `DataError` on rows that cannot be read or rendered.
    """
    prepare()
    from training.precision import compute_dtype, device

    from .bits import seeds_gigabytes
    from .counting import count
    from .memory import memory
    from .speed import UTILIZATION, measure_device, operations

    config = _config(recipe.base)
    counts = count(recipe, config)
    train, epoch = recipe.train, _epoch(recipe)
    steps, tokens = _steps_and_tokens(train, epoch)
    speed = measure_device(device(), compute_dtype())
    needed = None if tokens is None else operations(recipe, counts, tokens)
    answer_tokens = round(train.batch_size * train.max_length * _ANSWER_SHARE)
    return Plan(
        recipe=recipe,
        counts=counts,
        memory=memory(recipe, counts, config, answer_tokens=answer_tokens),
        seeds=seeds_gigabytes(counts.base),
        epoch=epoch,
        num_steps=steps,
        num_tokens=tokens,
        seconds=None if needed is None else needed / (speed * UTILIZATION),
        teraflops=speed / 1e12,
    )


def print_plan(
    path: Path, overrides: Sequence[str] = (), *, console: Console | None = None
) -> Plan:
    """Read a recipe and print its plan; raises a `TrainingError`."""
    recipe = read_recipe(path, overrides)
    plan = make_plan(recipe)
    console = console or Console()
    console.print(plan.table(f"{path.name} on {recipe.base}"))
    return plan


def _steps_and_tokens(train: TrainSettings, epoch: Epoch | None) -> tuple[int | None, int | None]:
    """Optimizer steps, and tokens that they compute; rows that are not here count as full."""
    if epoch is not None:
        steps = num_steps(train, epoch.num_trained)
        share = steps / steps_per_epoch(train, epoch.num_trained)
        return steps, round(epoch.num_tokens * share)
    if train.max_steps is None:
        return None, None
    rows = train.max_steps * train.batch_size * train.gradient_accumulation
    return train.max_steps, rows * train.max_length


def _epoch(recipe: Recipe) -> Epoch | None:
    """What the training rows come to; None where a file is not here yet, or is on the Hub."""
    from .epoch import Epoch, read_epoch

    sources = recipe.data.train
    if not all(isinstance(source, Path) and source.is_file() for source in sources):
        return None
    examples = read_examples(recipe.data).train
    tokenizer = _tokenizer(recipe.serve_on or recipe.base)
    if tokenizer is None:
        return Epoch.of_full_rows(recipe, len(examples))
    return read_epoch(recipe, examples, Renderer(tokenizer, recipe.hat.hat()))


def _config(base: str) -> Any:
    """The configuration of a pulled base, a folder, or (over the network) a Hub id."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(find_base(base))
    except RegistryError as error:
        if "/" not in base:  # no Hub id either
            raise BaseError(error.message) from error
        try:
            return AutoConfig.from_pretrained(base)
        except (OSError, ValueError):
            raise BaseError(error.message) from error
    except (OSError, ValueError) as error:
        raise BaseError(f"{base} has no configuration that can be read: {error}") from error


def _tokenizer(base: str) -> Any:
    """The tokenizer that belongs to the configuration; None where there is none."""
    from transformers import AutoTokenizer

    try:
        place: Path | str = find_base(base)
    except RegistryError:
        place = base
    try:
        return AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError):
        return None


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.2f} GB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
