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
from training.data_settings import DataSettings
from training.errors import BaseError
from training.examples import read_examples
from training.foundation import prepare
from training.reading import read_recipe
from training.recipe import Recipe

if TYPE_CHECKING:
    from .counting import Counts
    from .memory import Memory

_ANSWER_SHARE = 0.5  # of a row's tokens that are answer, where the rows are not there to be asked


@dataclass(frozen=True)
class Plan:
    """What a recipe comes to. `num_rows` and `num_steps` are None where the rows are not here."""

    counts: Counts
    memory: Memory
    seeds: dict[str, float]  # GB by method, as seed 002 counts
    num_rows: int | None
    num_steps: int | None
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
        if self.num_rows is not None:
            lines.append(("rows", f"{self.num_rows:,}"))
        if self.num_steps is not None:
            lines.append(("steps", f"{self.num_steps:,}"))
        if self.seconds is not None:
            pace = f"{self.teraflops:.2f} TFLOP/s measured here"
            lines.append((f"time (estimate, rows full, at {pace})", _duration(self.seconds)))
        return lines


def make_plan(recipe: Recipe) -> Plan:
    """Work a recipe out; needs its base's configuration, and no weights.

    Raises `BaseError` when there is no configuration, `DataError` on rows that cannot be read.
    """
    prepare()
    from training.precision import compute_dtype, device
    from training.trainer import num_steps

    from .bits import seeds_gigabytes
    from .counting import count
    from .memory import memory
    from .speed import UTILIZATION, measure_device, operations

    config = _config(recipe.base)
    counts = count(recipe, config)
    train, num_rows = recipe.train, _num_rows(recipe.data)
    steps = train.max_steps
    if steps is None and num_rows is not None:
        steps = num_steps(train, num_rows)
    speed = measure_device(device(), compute_dtype())
    seconds = None
    if steps is not None:
        # As if every row were full: the longest it can take.
        tokens = steps * train.batch_size * train.gradient_accumulation * train.max_length
        seconds = operations(recipe, counts, tokens) / (speed * UTILIZATION)
    answer_tokens = round(train.batch_size * train.max_length * _ANSWER_SHARE)
    return Plan(
        counts=counts,
        memory=memory(recipe, counts, config, answer_tokens=answer_tokens),
        seeds=seeds_gigabytes(counts.base),
        num_rows=num_rows,
        num_steps=steps,
        seconds=seconds,
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


def _num_rows(data: DataSettings) -> int | None:
    """Rows to train on; None where a file is not here yet, or a dataset is on the Hub."""
    if not all(isinstance(source, Path) and source.is_file() for source in data.train):
        return None
    return len(read_examples(data).train)


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.2f} GB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
