"""Several versions on the same rows: the table and the chart of the second article."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from .pictures import plot_groups
from .report import Report
from .scores import Scores
from .tables import score_table

COMPARISON_FILE, CHART_FILE = "comparison.json", "comparison.png"


@dataclass(frozen=True)
class Comparison:
    """Reports on the same files, in the order in which the versions were named."""

    reports: tuple[Report, ...]

    @property
    def sides(self) -> dict[str, tuple[Scores, ...]]:
        """Every version beside the base, which is there once for each hat that it answers under."""
        sides: dict[str, tuple[Scores, ...]] = {}
        for report in self.reports:
            base = tuple(group.base for group in report.groups)
            if base not in sides.values():
                sides[f"base as {report.subject}" if sides else "base"] = base
            sides[report.subject] = tuple(group.adapter for group in report.groups)
        return sides

    def table(self) -> Table:
        """A block a difficulty, a line a version."""
        groups = self.reports[0].groups
        return score_table(groups, self.sides, title=", ".join(r.subject for r in self.reports))

    def document(self) -> dict[str, Any]:
        return {"format": 1, "reports": [report.document() for report in self.reports]}

    def write(self, folder: Path) -> None:
        """Write `comparison.json` and `comparison.png`."""
        text = json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n"
        (folder / COMPARISON_FILE).write_text(text, encoding="utf-8")
        title = "the same rows, by difficulty"
        plot_groups(self.reports[0].groups, self.sides, folder / CHART_FILE, title=title)
