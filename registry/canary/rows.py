"""Canaries in the catalog's tables."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.references import Reference
from registry.tables import adapter, canary
from registry.tables import version as version_table
from registry.versions import (
    DEFAULT_ALIAS,
    Version,
    adapter_key,
    find_version,
    select_versions,
    version_key,
)

from .record import Canary, Route, Split
from .rules import Rules

_CANARIES = sa.select(canary, adapter.c.name.label("adapter")).join(
    adapter, adapter.c.id == canary.c.adapter_id
)
_RUNNING = canary.c.state == "running"


def find_running(connection: Connection, name: str, alias_name: str) -> Canary | None:
    """The canary that runs on an alias."""
    mine = (adapter.c.name == name, canary.c.alias == alias_name, _RUNNING)
    return next(iter(select_canaries(connection, *mine)), None)


def find_newest(connection: Connection, name: str, alias_name: str) -> Canary | None:
    """The canary that was begun last on an alias, whether or not it runs."""
    mine = (adapter.c.name == name, canary.c.alias == alias_name)
    return next(reversed(select_canaries(connection, *mine)), None)


def list_running(connection: Connection, name: str | None = None) -> list[Canary]:
    """Every canary that runs, of one adapter or of all."""
    mine = () if name is None else (adapter.c.name == name,)
    return select_canaries(connection, _RUNNING, *mine)


def select_canaries(connection: Connection, *conditions: sa.ColumnElement[bool]) -> list[Canary]:
    """Canaries by conditions on the tables, in the order in which they were begun."""
    rows = connection.execute(_CANARIES.where(*conditions).order_by(canary.c.id)).all()
    keys = {key for row in rows for key in (row.stable_version_id, row.target_version_id)}
    versions = {key: _version(connection, key) for key in keys}
    return [_canary(row, versions) for row in rows]


def find_route(connection: Connection, reference: Reference) -> Route:
    """Where a reference leads now; raises what `find_version` raises."""
    stable = find_version(connection, reference)
    if reference.number is not None or reference.digest is not None:
        return Route(stable)
    running = find_running(connection, reference.name, reference.alias or DEFAULT_ALIAS)
    return Route(stable, None if running is None else running.split)


def list_splits(connection: Connection, name: str) -> list[Split]:
    """How the requests for an adapter's aliases are split now."""
    return [each.split for each in list_running(connection, name)]


def insert_canary(connection: Connection, new: Canary) -> int:
    """Write a new row; returns its key."""
    row = {
        "adapter_id": adapter_key(connection, new.name),
        "alias": new.alias,
        "stable_version_id": version_key(connection, new.stable),
        "target_version_id": version_key(connection, new.target),
        "rules": new.rules.model_dump_json(),
        "step": new.step,
        "state": new.state,
        "started_at": new.started_at.replace(tzinfo=None),
        "step_at": new.step_at.replace(tzinfo=None),
        "by": new.by,
        "why": new.why,
        "verdict": new.verdict,
    }
    key: int = connection.execute(sa.insert(canary).values(row).returning(canary.c.id)).scalar_one()
    return key


def update_canary(connection: Connection, canary_id: int, **values: Any) -> None:
    """Change columns of a row."""
    connection.execute(sa.update(canary).where(canary.c.id == canary_id).values(**values))


def _version(connection: Connection, key: int) -> Version:
    # Withdrawn versions too: an ended canary still tells what it was about.
    return select_versions(connection, version_table.c.id == key, withdrawn=True)[0]


def _canary(row: Any, versions: dict[int, Version]) -> Canary:
    return Canary(
        id=row.id,
        name=row.adapter,
        alias=row.alias,
        stable=versions[row.stable_version_id],
        target=versions[row.target_version_id],
        rules=Rules.read(json.loads(row.rules)),
        step=row.step,
        state=row.state,
        started_at=row.started_at.replace(tzinfo=UTC),
        step_at=row.step_at.replace(tzinfo=UTC),
        ended_at=row.ended_at and row.ended_at.replace(tzinfo=UTC),
        by=row.by,
        why=row.why,
        verdict=row.verdict,
    )
