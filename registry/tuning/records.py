"""What happens to a job, step by step: its events and its checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.stores import Store

from . import owners, tables
from .errors import JobNotFound
from .rows import new_id, page

Level = Literal["info", "warn", "error"]


@dataclass(frozen=True)
class JobEvent:
    """One line of a job's log; `type` is `message` or `metrics`, whose figures are in `data`."""

    id: str
    created_at: int
    level: Level
    type: str
    message: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A place that a job can go on from; `model` is the version that was made of it, if one was."""

    id: str
    created_at: int
    step: int
    metrics: Mapping[str, float]
    model: str | None


class Records:
    """Events and checkpoints of jobs, newest first."""

    def __init__(self, store: Store, owner: str = owners.NOBODY) -> None:
        self._store = store
        self._owner = owner

    def events(
        self, job_id: str, *, after: str | None = None, limit: int = 20
    ) -> tuple[list[JobEvent], bool]:
        """Events older than the one called `after`, and whether there are more."""
        rows, more = self._page(tables.event, job_id, after, limit)
        return [_event(row) for row in rows], more

    def events_since(self, job_id: str, number: int) -> list[tuple[int, JobEvent]]:
        """Events after that number, oldest first, each with its own: what a stream follows."""
        with self._store.read() as connection:
            key = self._job_key(connection, job_id)
            mine = (tables.event.c.job_key == key, tables.event.c.key > number)
            rows = connection.execute(
                sa.select(tables.event).where(*mine).order_by(tables.event.c.key)
            )
            return [(row.key, _event(row)) for row in rows]

    def checkpoints(
        self, job_id: str, *, after: str | None = None, limit: int = 10
    ) -> tuple[list[Checkpoint], bool]:
        """Checkpoints older than the one called `after`, and whether there are more."""
        rows, more = self._page(tables.checkpoint, job_id, after, limit)
        return [_checkpoint(row) for row in rows], more

    def published(self, job_id: str) -> list[Checkpoint]:
        """All checkpoints that can be asked, oldest first."""
        with self._store.read() as connection:
            mine = tables.checkpoint.c.job_key == self._job_key(connection, job_id)
            query = sa.select(tables.checkpoint).where(mine, tables.checkpoint.c.model.is_not(None))
            return [_checkpoint(row) for row in connection.execute(query.order_by("key"))]

    def _page(
        self, table: sa.Table, job_id: str, after: str | None, limit: int
    ) -> tuple[list[Any], bool]:
        with self._store.read() as connection:
            mine = table.c.job_key == self._job_key(connection, job_id)
            return page(connection, table, mine, after=after, limit=limit)

    def _job_key(self, connection: Connection, job_id: str) -> int:
        row = owners.find(connection, tables.job, job_id, self._owner)
        if row is None:
            raise JobNotFound(f"there is no fine-tuning job {job_id!r}", param="id")
        return int(row.key)


def add_event(
    connection: Connection,
    job_key: int,
    message: str,
    *,
    level: Level = "info",
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write one line of a job's log; with `data` it is a line of metrics."""
    values = {
        "id": new_id("ftevent"),
        "job_key": job_key,
        "created_at": int(time.time()),
        "level": level,
        "type": "message" if data is None else "metrics",
        "message": message,
        "data": dict(data or {}),
    }
    connection.execute(sa.insert(tables.event).values(values))


def add_checkpoint(
    connection: Connection,
    job_key: int,
    step: int,
    metrics: Mapping[str, float],
    model: str | None = None,
) -> None:
    """Note a checkpoint; a step that is there already gets the model that was made of it."""
    mine = (tables.checkpoint.c.job_key == job_key, tables.checkpoint.c.step == step)
    values: dict[str, Any] = {"metrics": dict(metrics), "model": model}
    if connection.execute(sa.update(tables.checkpoint).where(*mine).values(values)).rowcount:
        return
    values |= {
        "id": new_id("ftckpt"),
        "job_key": job_key,
        "created_at": int(time.time()),
        "step": step,
    }
    connection.execute(sa.insert(tables.checkpoint).values(values))


def forget_model(connection: Connection, model: str) -> None:
    """Say of every checkpoint that was this version that it cannot be asked any more."""
    mine = tables.checkpoint.c.model == model
    connection.execute(sa.update(tables.checkpoint).where(mine).values(model=None))


def _event(row: Any) -> JobEvent:
    return JobEvent(row.id, row.created_at, row.level, row.type, row.message, row.data)


def _checkpoint(row: Any) -> Checkpoint:
    return Checkpoint(row.id, row.created_at, row.step, row.metrics, row.model)
