"""Adapters at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .tables import adapter, alias, version
from .versions import Version, select_versions


@dataclass(frozen=True)
class AdapterSummary:
    """One adapter at a glance. `aliases` maps each alias to the number it points at."""

    name: str
    created_at: datetime
    num_versions: int
    newest: Version
    aliases: Mapping[str, int]


def list_adapters(connection: Connection) -> list[AdapterSummary]:
    """Every adapter, by name."""
    counts = {
        row.adapter_id: (row.num_versions, row.newest)
        for row in connection.execute(
            sa.select(
                version.c.adapter_id,
                sa.func.count().label("num_versions"),
                sa.func.max(version.c.number).label("newest"),
            ).group_by(version.c.adapter_id)
        )
    }
    pointing: dict[int, dict[str, int]] = {key: {} for key in counts}
    rows = connection.execute(
        sa.select(alias.c.adapter_id, alias.c.name, version.c.number)
        .join(version, version.c.id == alias.c.version_id)
        .order_by(alias.c.name)
    )
    for row in rows:
        pointing[row.adapter_id][row.name] = row.number
    summaries = []
    for row in connection.execute(sa.select(adapter).order_by(adapter.c.name)):
        num_versions, number = counts[row.id]  # an adapter comes with its first version
        (newest,) = select_versions(
            connection, version.c.adapter_id == row.id, version.c.number == number
        )
        created_at = row.created_at.replace(tzinfo=UTC)
        summaries.append(
            AdapterSummary(row.name, created_at, num_versions, newest, pointing[row.id])
        )
    return summaries
