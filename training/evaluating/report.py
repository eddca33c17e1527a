"""An evaluation put together: as JSON, as a table, as the statement a registry keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from .difficulty import EVERYTHING
from .forgetting import Forgetting
from .scores import Group, Scores
from .tables import score_table

REPORT_FILE = "evaluation.json"


@dataclass(frozen=True)
class Report:
    """Base against adapter on the same rows under the same hat.

    `data` maps file names to digests; `how` says how numbers came about where that is a choice.
    """

    subject: str  # "sql@3"
    digest: str
    base_fingerprint: str
    data: Mapping[str, str]
    groups: tuple[Group, ...]
    forgetting: Forgetting | None
    how: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def metrics(self) -> dict[str, float]:
        """What becomes searchable: `exact_match`, `base_exact_match`, `hard_bleu`, …"""
        found: dict[str, float] = {}
        for group in self.groups:
            prefix = "" if group.name == EVERYTHING else f"{group.name}_"
            found |= {f"{prefix}{name}": value for name, value in group.adapter.numbers.items()}
            found |= {f"{prefix}base_{name}": value for name, value in group.base.numbers.items()}
        if self.forgetting is not None:
            found["forgetting"] = self.forgetting.rise
        return found

    def document(self) -> dict[str, Any]:
        """The statement: everything but the answers themselves."""
        return {
            "format": 1,
            "version": self.digest,
            "base": self.base_fingerprint,
            "data": dict(self.data),
            "metrics": self.metrics,
            "groups": [_group_document(group) for group in self.groups],
            "forgetting": None if self.forgetting is None else self.forgetting.document(),
            "how": dict(self.how),
            "environment": dict(self.environment),
        }

    def write(self, path: Path) -> None:
        """Write the document as JSON."""
        text = json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")

    @property
    def sides(self) -> dict[str, tuple[Scores, ...]]:
        """Base and adapter, group by group."""
        return {
            "base": tuple(group.base for group in self.groups),
            "adapter": tuple(group.adapter for group in self.groups),
        }

    def table(self) -> Table:
        """Two lines a group: base and adapter."""
        return score_table(self.groups, self.sides, title=f"{self.subject} against its base")


def _group_document(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "rows": group.num_rows,
        "base": group.base.document(),
        "adapter": group.adapter.document(),
    }
