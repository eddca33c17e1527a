"""How much a registry holds, in one look at the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from .events import newest_event
from .leases import list_leases
from .tables import adapter, version, withdrawal

if TYPE_CHECKING:
    from .catalog import Catalog


def census(catalog: Catalog) -> dict[str, float]:
    """Numbers by name: adapters, versions that stand and their bytes, events, leases."""
    stands = ~sa.exists().where(withdrawal.c.version_id == version.c.id)
    held = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(version.c.size), 0))
    with catalog.read() as connection:
        num_versions, num_bytes = connection.execute(held.where(stands)).one()
        return {
            "adapters": connection.execute(
                sa.select(sa.func.count()).select_from(adapter)
            ).scalar_one(),
            "versions": num_versions,
            "version_bytes": num_bytes,
            "newest_event": newest_event(connection),
            "leases": len(list_leases(connection)),
        }
