"""Leases: who is using a version, until when, so that it is not collected under them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .errors import VersionNotFound
from .tables import lease, version
from .versions import now


@dataclass(frozen=True)
class Lease:
    """`holder` (a server, say) uses the version with `digest` until `expires_at`."""

    digest: str
    holder: str
    expires_at: datetime


def take_lease(connection: Connection, digest: str, holder: str, seconds: float) -> Lease:
    """Take or prolong a lease; expired ones of anybody are forgotten on the way.

    Raises `VersionNotFound` when no version has that digest.
    """
    known = connection.execute(sa.select(version.c.id).where(version.c.digest == digest)).first()
    if known is None:
        raise VersionNotFound(f"no version has the digest {digest}", param="digest")
    at = now()
    expires_at = at + timedelta(seconds=seconds)
    connection.execute(sa.delete(lease).where(lease.c.expires_at <= at))
    mine = (lease.c.digest == digest, lease.c.holder == holder)
    prolonged = connection.execute(sa.update(lease).where(*mine).values(expires_at=expires_at))
    if prolonged.rowcount == 0:
        row = {"digest": digest, "holder": holder, "created_at": at, "expires_at": expires_at}
        connection.execute(sa.insert(lease).values(row))
    return Lease(digest, holder, expires_at.replace(tzinfo=UTC))


def drop_lease(connection: Connection, digest: str, holder: str) -> None:
    """Give a lease back; giving back what is not held is fine."""
    connection.execute(sa.delete(lease).where(lease.c.digest == digest, lease.c.holder == holder))


def list_leases(connection: Connection) -> list[Lease]:
    """The leases that have not expired."""
    rows = connection.execute(
        sa.select(lease).where(lease.c.expires_at > now()).order_by(lease.c.digest, lease.c.holder)
    )
    return [Lease(row.digest, row.holder, row.expires_at.replace(tzinfo=UTC)) for row in rows]
