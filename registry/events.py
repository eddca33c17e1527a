"""The feed: everything that happened, numbered in the order in which it was committed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .tables import event


@dataclass(frozen=True)
class Event:
    """One thing that happened to an adapter ("": to none); `data` depends on `kind`.

    Kinds: version.pushed, version.withdrawn, version.restored, alias.set, alias.rollback,
    alias.canary.start, alias.canary.advance, alias.canary.promote, alias.canary.abort,
    alias.protected, alias.unprotected, referrer.added, webhook.disabled.
    """

    id: int
    at: datetime
    kind: str
    adapter: str
    by: str
    data: Mapping[str, Any]


def record(connection: Connection, kind: str, adapter: str, *, by: str, **data: Any) -> None:
    """Write an event, in the transaction of what it tells of."""
    row = {
        "at": datetime.now(UTC).replace(tzinfo=None),
        "kind": kind,
        "adapter": adapter,
        "by": by,
        "data": json.dumps(data),
    }
    connection.execute(sa.insert(event).values(row))


def newest_event(connection: Connection) -> int:
    """The number of the last event, 0 before the first: a cursor that means "from now on"."""
    return connection.execute(sa.select(sa.func.max(event.c.id))).scalar() or 0


def events_after(connection: Connection, cursor: int, *, limit: int = 1000) -> list[Event]:
    """Events with numbers over `cursor`, oldest first."""
    rows = connection.execute(
        sa.select(event).where(event.c.id > cursor).order_by(event.c.id).limit(limit)
    )
    return [
        Event(
            id=row.id,
            at=row.at.replace(tzinfo=UTC),
            kind=row.kind,
            adapter=row.adapter,
            by=row.by,
            data=json.loads(row.data),
        )
        for row in rows
    ]
