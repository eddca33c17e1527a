"""The pictures of docs/scaling.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

Row = Mapping[str, float | str]


def draw(rows: Sequence[Row], folder: Path) -> None:
    """First tokens, slot hits and cost by load, a line for each number of replicas and routing."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    shown = (("p99", "first token, p99, ms"), ("hit", "slot hits, %"), ("dollars", "$ a million"))
    for axis, (name, label) in zip(axes, shown, strict=True):
        for (replicas, routing), line in _lines(rows).items():
            style = {"random": ":", "affinity 3:2:1": "--"}.get(str(routing), "-")
            color = f"C{(1, 4, 16, 64).index(int(replicas))}"
            axis.plot(
                [row["asked"] for row in line],
                [row[name] for row in line],
                style,
                color=color,
                marker=".",
                label=f"{replicas} × {routing}",
            )
        axis.set_xlabel("requests a second and replica")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[2].set_yscale("log")
    axes[1].legend(fontsize=7)
    figure.savefig(folder / "scaling.png", dpi=110)


def _lines(rows: Sequence[Row]) -> dict[tuple[float | str, float | str], list[Row]]:
    lines: dict[tuple[float | str, float | str], list[Row]] = {}
    for row in rows:
        if "disk" not in str(row["routing"]):
            lines.setdefault((row["replicas"], row["routing"]), []).append(row)
    return lines
