"""The tables of the device's figures, beside what the device allows and what is aimed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from server.bench.pull_apart import PulledApart

RATE = "tok/s"
AIMS: Mapping[str, tuple[float, float | None]] = {
    "1/0": (350, 600),
    "1/1": (300, 550),
    "16/16": (3_500, 6_000),
    "64/1": (10_000, 14_000),
    "64/64": (8_000, 11_000),
    "128/64": (10_000, 13_500),
    "prefill": (35_000, 45_000),
    "first token of 128": (10, None),
    "first token of 1024": (30, None),
    "cold": (40, 15),
    "swap": (4, 2),
    "p99 while adapters load, of p99 without": (110, None),
    "Zipf, of all resident": (85, None),
    "HTTP, of the engine alone": (95, None),
    "start to ready": (30, 12),
    "peak, weights": (4.3, None),
}
"""First gate and goal by figure, for the Mistral-7B shape and rank 16 on one H200."""


@dataclass(frozen=True)
class Figure:
    """One measured value, and the best that the device allows, in the same unit.

    More is better for rates, and for shares of something that is lost; else less.
    """

    name: str
    value: float
    unit: str
    bound: float | None = None

    @property
    def share(self) -> float | None:
        """How much of what the device allows is reached."""
        if self.bound is None:
            return None
        return self.value / self.bound if self.unit == RATE else self.bound / self.value

    @property
    def gate(self) -> float | None:
        return AIMS.get(self.name, (None, None))[0]

    @property
    def goal(self) -> float | None:
        return AIMS.get(self.name, (None, None))[1]


def print_figures(console: Console, title: str, figures: Sequence[Figure]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("", "unit", "device allows", "% of it", "gate", "goal"):
        table.add_column(heading, justify="right")
    for figure in figures:
        table.add_row(
            figure.name,
            _number(figure.value),
            figure.unit,
            _number(figure.bound),
            "" if figure.share is None else f"{100 * figure.share:.0f}",
            _number(figure.gate),
            _number(figure.goal),
        )
    console.print(table)


def print_pulled_apart(console: Console, what: str, parts: PulledApart) -> None:
    title = f"{what}: {parts.wall:.0f} µs, {parts.num_kernels} kernels"
    table = Table(title=title, title_justify="left")
    table.add_column("kind")
    table.add_column("µs", justify="right")
    for kind, microseconds in sorted(parts.by_kind.items(), key=lambda item: -item[1]):
        table.add_row(kind, f"{microseconds:.0f}")
    table.add_row("gaps (negative: overlap)", f"{parts.gaps:.0f}")
    table.add_section()
    for kernel, microseconds in sorted(parts.by_kernel.items(), key=lambda item: -item[1])[:14]:
        table.add_row(kernel, f"{microseconds:.0f}")
    console.print(table)


def _number(value: float | None) -> str:
    """With as many digits as say something."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
