"""The log of deliveries: the newest hundred of each webhook."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.catalog import Catalog
from registry.tables import webhook_delivery
from registry.versions import now

from .hook import Webhook, find_hook
from .outcome import Outcome

_MOST = 100


@dataclass(frozen=True)
class Delivery:
    """One try to bring an event to a webhook, and what came of it."""

    event: int
    at: datetime
    status: int | None
    error: str
    seconds: float


def log_delivery(connection: Connection, hook: Webhook, event_id: int, outcome: Outcome) -> None:
    """Append an entry, and forget the oldest."""
    row = {
        "webhook_id": hook.id,
        "event_id": event_id,
        "at": now(),
        "status": outcome.status,
        "error": outcome.error,
        "seconds": outcome.seconds,
    }
    connection.execute(sa.insert(webhook_delivery).values(row))
    mine = webhook_delivery.c.webhook_id == hook.id
    kept = (
        sa.select(webhook_delivery.c.id)
        .where(mine)
        .order_by(webhook_delivery.c.id.desc())
        .limit(1)
        .offset(_MOST - 1)
    )
    oldest = connection.execute(kept).scalar()
    if oldest is not None:
        connection.execute(sa.delete(webhook_delivery).where(mine, webhook_delivery.c.id < oldest))


def read_deliveries(catalog: Catalog, hook_id: str) -> list[Delivery]:
    """A webhook's newest deliveries first; raises `NotFound`."""
    with catalog.read() as connection:
        find_hook(connection, hook_id)
        rows = connection.execute(
            sa.select(webhook_delivery)
            .where(webhook_delivery.c.webhook_id == hook_id)
            .order_by(webhook_delivery.c.id.desc())
        ).all()
    return [
        Delivery(row.event_id, row.at.replace(tzinfo=UTC), row.status, row.error, row.seconds)
        for row in rows
    ]
