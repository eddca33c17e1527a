"""Adapters at a glance, a page at a time."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .pages import MetricCondition, Page, Search
from .tables import adapter, alias, base, metric, tag, version
from .versions import STANDING, Version, select_versions

_RELATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class AdapterSummary:
    """One adapter at a glance. `aliases` maps each alias to the number it points at."""

    name: str
    created_at: datetime
    num_versions: int
    newest: Version
    aliases: Mapping[str, int]


def list_adapters(
    connection: Connection, search: Search | None = None, *, after: str = "", limit: int
) -> Page[AdapterSummary]:
    """Adapters by name, those after `after`; ones whose every version is withdrawn are left out."""
    search = search or Search()
    matching = (STANDING, *_conditions(search))
    # Two steps, so that a page costs what is on it and not what is in the catalog.
    found = connection.execute(
        sa.select(adapter.c.id, adapter.c.name, adapter.c.created_at)
        .where(adapter.c.name > after, adapter.c.name.contains(search.text, autoescape=True))
        .where(sa.exists().where(version.c.adapter_id == adapter.c.id, *matching))
        .order_by(adapter.c.name)
        .limit(limit + 1)
    ).all()
    rows = found[:limit]
    keys = [row.id for row in rows]
    counts, aliases = _counts(connection, keys, matching), _aliases(connection, keys)
    newest = _newest(connection, [(key, counts[key][1]) for key in keys])
    items = [
        AdapterSummary(
            name=row.name,
            created_at=row.created_at.replace(tzinfo=UTC),
            num_versions=counts[row.id][0],
            newest=newest[row.name],
            aliases=aliases[row.id],
        )
        for row in rows
    ]
    return Page(items, rows[-1].name if len(found) > limit else None)


def _counts(
    connection: Connection, keys: Sequence[int], matching: Sequence[sa.ColumnElement[bool]]
) -> dict[int, tuple[int, int]]:
    """Adapter's key → how many versions match, and the highest number among them."""
    rows = connection.execute(
        sa.select(version.c.adapter_id, sa.func.count(), sa.func.max(version.c.number))
        .where(version.c.adapter_id.in_(keys), *matching)
        .group_by(version.c.adapter_id)
    )
    return {key: (count, highest) for key, count, highest in rows}


def _aliases(connection: Connection, keys: Sequence[int]) -> dict[int, dict[str, int]]:
    pointing: dict[int, dict[str, int]] = {key: {} for key in keys}
    for row in connection.execute(
        sa.select(alias.c.adapter_id, alias.c.name, version.c.number)
        .join(version, version.c.id == alias.c.version_id)
        .where(alias.c.adapter_id.in_(keys))
        .order_by(alias.c.name)
    ):
        pointing[row.adapter_id][row.name] = row.number
    return pointing


def _newest(connection: Connection, keys: Sequence[tuple[int, int]]) -> dict[str, Version]:
    if not keys:
        return {}
    pairs = sa.tuple_(version.c.adapter_id, version.c.number).in_(keys)
    return {found.name: found for found in select_versions(connection, pairs)}


def _conditions(search: Search) -> list[sa.ColumnElement[bool]]:
    """What one of the adapter's versions must meet. Counts tell of those that do."""
    conditions: list[sa.ColumnElement[bool]] = []
    if search.base:
        named = sa.exists().where(
            base.c.fingerprint == version.c.base_fingerprint, base.c.name == search.base
        )
        # Without the prefix, a few letters of a name would fit many fingerprints.
        begins = version.c.base_fingerprint.startswith(search.base, autoescape=True)
        conditions.append(named | begins if search.base.startswith("sha256:") else named)
    conditions += [_has_tag(each) for each in search.tags]
    conditions += [_has_metric(each) for each in search.metrics]
    return conditions


def _has_tag(name: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(tag.c.version_id == version.c.id, tag.c.tag == name)


def _has_metric(condition: MetricCondition) -> sa.ColumnElement[bool]:
    compare = _RELATIONS[condition.relation]
    return sa.exists().where(
        metric.c.version_id == version.c.id,
        metric.c.name == condition.name,
        compare(metric.c.value, condition.value),
    )
