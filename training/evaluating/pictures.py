"""Evaluations as pictures: BLEU and exact match by difficulty, perplexity by size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .scores import Group
from .tables import Sides

if TYPE_CHECKING:
    from .levels import Level

_LINE = "#1f5a94"
_COLORS = ("#9db7d5", _LINE, "#c2541b", "#2f7d32", "#7a4d9c", "#8a8a8a")
_WIDTH = 0.8  # of a group's bars together


def plot_groups(groups: Sequence[Group], sides: Sides, path: Path, *, title: str) -> None:
    """A PNG with BLEU and exact match of each side, group by group (seed 001's chart)."""
    figure = _figure(min(14, max(9, len(groups) * len(sides))), 4)
    width = _WIDTH / len(sides)
    for axes, (key, label) in zip(
        figure.subplots(1, 2), (("bleu", "BLEU"), ("exact_match", "exact match")), strict=True
    ):
        for place, (side, scores) in enumerate(sides.items()):
            offset = (place - (len(sides) - 1) / 2) * width
            bars = axes.bar(
                [index + offset for index in range(len(groups))],
                [getattr(score, key) for score in scores],
                width,
                color=_COLORS[place % len(_COLORS)],
                label=side,
            )
            axes.bar_label(bars, fmt="%.0f" if key == "bleu" else "%.2f", fontsize=8)
        axes.set_xticks(range(len(groups)), [f"{g.name}\n{g.num_rows} rows" for g in groups])
        axes.set(title=label, ylim=(0, None))
        axes.legend()
    figure.suptitle(title)
    _save(figure, path)


def plot_levels(levels: Sequence[Level], path: Path, *, title: str) -> None:
    """A PNG with perplexity against the bytes that the weights take."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    sizes = [level.num_bytes / 1e6 for level in levels]
    values = [level.likelihood.perplexity for level in levels]
    axes.plot(sizes, values, color=_LINE, marker="o")
    for level, size, value in zip(levels, sizes, values, strict=True):
        axes.annotate(level.name, (size, value), xytext=(4, 6), textcoords="offset points")
    axes.set(title=title, xlabel="weights (MB)", ylabel="perplexity")
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # not pyplot, which keeps global state

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    # No metadata: matplotlib would write its version and so change the file's digest.
    figure.savefig(path, dpi=120, metadata={"Software": None})
