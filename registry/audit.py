"""The audit log: every request over HTTP that would change something, granted or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from .catalog import Catalog
from .tables import audit
from .versions import now


@dataclass(frozen=True)
class AuditEntry:
    """`by` asked from `address` for `action`, a method and a path, and got `status`."""

    id: int
    at: datetime
    by: str
    address: str
    action: str
    status: int


class AuditLog:
    """The log of one registry."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def write(self, *, by: str, address: str, action: str, status: int) -> None:
        """Append an entry."""
        row = {"at": now(), "by": by[:255], "address": address[:64], "action": action[:255]}
        with self._catalog.write() as connection:
            connection.execute(sa.insert(audit).values(status=status, **row))

    def read(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """The newest entries first, those older than entry `before`."""
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.id < before)
        with self._catalog.read() as connection:
            rows = connection.execute(query).all()
        return [
            AuditEntry(
                id=row.id,
                at=row.at.replace(tzinfo=UTC),
                by=row.by,
                address=row.address,
                action=row.action,
                status=row.status,
            )
            for row in rows
        ]
