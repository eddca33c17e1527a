"""A soak's curves: `python -m tests.torture.curves FILE.csv FILE.png [TITLE]`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

PANELS = {
    "memory, MiB": {"rss_mib": "host", "device_mib": "device"},
    "sequences": {"running": "running", "waiting": "waiting"},
    "tokens a second": {"tokens_per_second": "generated"},
    "to the first text, s": {f"first_p{point}_s": f"p{point}" for point in (50, 95, 99)},
    "between texts, s": {f"gap_p{point}_s": f"p{point}" for point in (50, 95, 99)},
}


def draw(table: Path, picture: Path, title: str) -> None:
    """One panel below the other, over minutes."""
    with table.open(newline="") as lines:
        rows = [
            {name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)
        ]
    minutes = [row["seconds"] / 60 for row in rows]
    figure, panels = pyplot.subplots(
        len(PANELS), 1, sharex=True, figsize=(9, 11), layout="constrained"
    )
    for axes, (unit, curves) in zip(panels, PANELS.items(), strict=True):
        for column, label in curves.items():
            values = [row[column] for row in rows]
            if any(values):
                axes.plot(minutes, values, label=label, linewidth=1.2)
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    panels[0].set_title(title)
    panels[-1].set_xlabel("minutes")
    figure.savefig(picture, dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]), " ".join(sys.argv[3:]))
