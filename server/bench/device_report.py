"""The tables of the device's figures, beside what the device allows and what is aimed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from server.bench.pull_apart import PulledApart
from server.bench.workload import Case

GATES: Mapping[str, tuple[float, float]] = {
    "1/0": (350, 600),
    "1/1": (300, 550),
    "16/16": (3_500, 6_000),
    "64/1": (10_000, 14_000),
    "64/64": (8_000, 11_000),
    "128/64": (10_000, 13_500),
}
"""First gate and goal, tokens per second, for the Mistral-7B shape and rank 16 on one H200."""


@dataclass(frozen=True)
class Speed:
    """One case's tokens per second, and the seconds that a step takes at the least."""

    case: Case
    tokens_per_second: float
    floor: float

    @property
    def step(self) -> float:
        """Seconds of one step."""
        return self.case.streams / self.tokens_per_second


def print_speeds(console: Console, title: str, speeds: Sequence[Speed]) -> None:
    table = Table(title=title)
    headings = ("streams/adapters", "tok/s", "step, ms", "floor, ms", "% of floor", "gate", "goal")
    for heading in headings:
        table.add_column(heading, justify="right")
    for speed in speeds:
        gate, goal = GATES.get(speed.case.label, (0, 0))
        table.add_row(
            speed.case.label,
            f"{speed.tokens_per_second:.0f}",
            f"{speed.step * 1e3:.2f}",
            f"{speed.floor * 1e3:.2f}",
            f"{100 * speed.floor / speed.step:.0f}",
            f"{gate:.0f}" if gate else "",
            f"{goal:.0f}" if goal else "",
        )
    console.print(table)


def print_figures(console: Console, title: str, figures: Mapping[str, str]) -> None:
    table = Table(title=title, show_header=False)
    for name, value in figures.items():
        table.add_row(name, value)
    console.print(table)


def print_pulled_apart(console: Console, case: Case, parts: PulledApart) -> None:
    title = f"one step of {case.label}: {parts.wall:.0f} µs, {parts.num_kernels} kernels"
    table = Table(title=title)
    table.add_column("kind")
    table.add_column("µs", justify="right")
    for kind, microseconds in sorted(parts.by_kind.items(), key=lambda item: -item[1]):
        table.add_row(kind, f"{microseconds:.0f}")
    table.add_row("gaps (negative: overlap)", f"{parts.gaps:.0f}")
    table.add_section()
    for kernel, microseconds in sorted(parts.by_kernel.items(), key=lambda item: -item[1])[:14]:
        table.add_row(kernel, f"{microseconds:.0f}")
    console.print(table)
