"""What `hatstand perplexity` calls: one base at every quantization level."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from registry.bases import BaseRecord, find_base, read_base
from registry.errors import RegistryError
from training.errors import BaseError
from training.foundation import prepare
from training.progress import Progressing

from .general import WINDOW, read_text, windows
from .pictures import plot_levels

if TYPE_CHECKING:
    from .levels import Level, LevelName


@dataclass(frozen=True)
class LevelTable:
    """A base's levels on one text, the first of them the measure for the others."""

    base: BaseRecord
    levels: tuple[Level, ...]

    def table(self) -> Table:
        """A line a level: bytes, bits a weight, perplexity, and how much worse than the first."""
        first = self.levels[0].likelihood.perplexity
        table = Table(title=f"{self.base.name}: perplexity on {self.num_tokens:,} tokens")
        for heading in ("level", "weights", "bits/weight", "loss", "perplexity", "change"):
            table.add_column(heading, justify="left" if heading == "level" else "right")
        for level in self.levels:
            perplexity = level.likelihood.perplexity
            table.add_row(
                level.name,
                f"{level.num_bytes / 1e6:,.1f} MB",
                f"{level.bits:.3f}",
                f"{level.likelihood.loss:.4f}",
                f"{perplexity:.3f}",
                f"{perplexity / first - 1:+.2%}",
            )
        return table

    @property
    def num_tokens(self) -> int:
        return self.levels[0].likelihood.tokens

    def document(self) -> dict[str, Any]:
        return {
            "base": self.base.name,
            "window": WINDOW,
            "levels": [level.document() for level in self.levels],
        }


def measure_levels(
    base: str,
    *,
    text: Path | None = None,
    levels: Sequence[LevelName] = (),
    plot: Path | None = None,
    json_file: Path | None = None,
    console: Console | None = None,
) -> LevelTable:
    """Read `text` (None: the one that comes along) with the base at each level, and print a table.

    Raises a `TrainingError`; no level has been measured then, or the ones before the failing one.
    """
    console = console or Console()
    progress = Progressing(console)
    try:
        folder = find_base(base)
        record = read_base(folder)
    except RegistryError as error:
        raise BaseError(error.message) from error
    content = read_text(text)
    prepare()
    from transformers import AutoTokenizer

    from training.precision import device

    from .levels import LEVELS, measure_level

    pieces = windows(content, AutoTokenizer.from_pretrained(folder))
    measured = []
    for name in levels or LEVELS:
        with progress.phase(name, f"reading {len(pieces)} windows in {name}"):
            measured.append(measure_level(folder, name, pieces, device=device()))
    found = LevelTable(record, tuple(measured))
    console.print(found.table())
    if plot is not None:
        plot_levels(found.levels, plot, title=f"{record.name}: perplexity by quantization")
    if json_file is not None:
        json_file.write_text(json.dumps(found.document(), indent=1) + "\n", encoding="utf-8")
    return found
