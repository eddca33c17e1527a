"""The loss as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .progress import Curves

_SMOOTHING = 0.8  # weight of the past in the smoothed line


def plot_losses(curves: Curves, path: Path, *, title: str, best: int | None = None) -> None:
    """Write a PNG with the training loss (raw and smoothed) and the validation loss by step.

    `best` is the step whose weights were saved, where that is not the last one.
    """
    from matplotlib.figure import (
        Figure,
    )  # not pyplot, which keeps global state and asks for a screen

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps = [step for step, _ in curves.train]
    losses = [loss for _, loss in curves.train]
    axes.plot(steps, losses, color="#9db7d5", linewidth=1, label="train, each step")
    axes.plot(steps, smooth(losses), color="#1f5a94", linewidth=2, label="train, smoothed")
    if curves.validation:
        axes.plot(
            [step for step, _ in curves.validation],
            [loss for _, loss in curves.validation],
            color="#c2541b",
            marker="o",
            label="validation",
        )
    if best is not None:
        axes.axvline(best, color="#2f7d32", linestyle="--", label=f"saved: step {best}")
    axes.set(title=title, xlabel="step", ylabel="loss (nats per answer token)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    # No metadata: matplotlib would write its version and so change the file's digest.
    figure.savefig(path, dpi=120, metadata={"Software": None})


def smooth(values: Sequence[float]) -> list[float]:
    """An exponential moving average whose start is not pulled to zero (Adam's correction)."""
    smoothed, average = [], 0.0
    for count, value in enumerate(values, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * value
        smoothed.append(average / (1 - _SMOOTHING**count))
    return smoothed
