"""Garbage collection: mark what versions, referrers and leases need, sweep the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from typing_extensions import TypedDict

from .blobs import StoredBlob
from .tables import lease, referrer, version, withdrawal
from .versions import STANDING, now

if TYPE_CHECKING:
    from .embedded import Registry

DEFAULT_GRACE = 24 * 3600.0  # seconds
_BATCH = 64  # blobs deleted under one hold of the writers' lock


class BlobDocument(TypedDict):
    """A blob and its size in bytes."""

    digest: str
    size: int


class CollectionDocument(TypedDict):
    """What one collection did, or would do."""

    is_dry_run: bool
    collected: list[BlobDocument]
    spared: list[BlobDocument]
    num_kept: int
    freed: int


@dataclass(frozen=True)
class Collection:
    """What one collection did, or would do: every stored blob is in exactly one group."""

    collected: tuple[StoredBlob, ...]
    spared: tuple[StoredBlob, ...]  # unused, but younger than the grace period
    num_kept: int
    is_dry_run: bool

    @property
    def freed(self) -> int:
        """Bytes."""
        return sum(blob.size for blob in self.collected)


def collect(
    registry: Registry, *, grace: float = DEFAULT_GRACE, dry_run: bool = False
) -> Collection:
    """Remove blobs that nothing needs and that are older than `grace` seconds.

    Safe beside pushes and other collections: a blob is looked at again, and deleted, under the
    lock that commits take, and a commit checks under it that its blobs are there.
    """
    with registry.catalog.read() as connection:
        needed = needed_blobs(connection)
    stored = list(registry.blobs.list())
    unused = [blob for blob in stored if blob.digest not in needed]
    before = datetime.now(UTC) - timedelta(seconds=grace)
    old = [blob for blob in unused if blob.modified_at <= before]
    collected = old if dry_run else _sweep(registry, old, before)
    gone = {blob.digest for blob in collected}
    spared = [blob for blob in unused if blob.digest not in gone]
    if not dry_run:
        registry.staging.sweep()
    return Collection(tuple(collected), tuple(spared), len(stored) - len(unused), dry_run)


def _sweep(registry: Registry, old: list[StoredBlob], before: datetime) -> list[StoredBlob]:
    collected = []
    for start in range(0, len(old), _BATCH):
        with registry.catalog.write() as connection:
            needed = needed_blobs(connection)  # somebody may have pushed since we marked
            for blob in old[start : start + _BATCH]:
                found = registry.blobs.find(blob.digest)
                if found is None or found.modified_at > before or blob.digest in needed:
                    continue
                registry.blobs.delete(blob.digest)
                collected.append(blob)
    return collected


def needed_blobs(connection: Connection) -> set[str]:
    """Digests of all that must stay, and be in a backup.

    It is what standing or leased versions and their referrers name.
    """
    leased = sa.select(lease.c.digest).where(lease.c.expires_at > now())
    rows = connection.execute(
        sa.select(version.c.digest, version.c.manifest).where(
            STANDING | version.c.digest.in_(leased)
        )
    ).all()
    needed = {row.digest for row in rows}
    # Aliases need no look of their own: what one points at cannot be withdrawn.
    columns = (referrer.c.subject, referrer.c.digest, referrer.c.manifest)
    statements = [row for row in connection.execute(sa.select(*columns)) if row.subject in needed]
    needed |= {row.digest for row in statements}
    for row in (*rows, *statements):
        needed |= set(_named(json.loads(row.manifest)))
    return needed


def _named(manifest: dict[str, Any]) -> Iterator[str]:
    yield manifest["config"]["digest"]
    yield from (layer["digest"] for layer in manifest["layers"])


def explain(registry: Registry, digest: str) -> str:
    """Why a blob is stored, in words: for orphans, where they came from as far as is known."""
    with registry.catalog.read() as connection:
        if digest in needed_blobs(connection):
            return "in use"
        rows = connection.execute(
            sa.select(version.c.digest, version.c.manifest).join(
                withdrawal, withdrawal.c.version_id == version.c.id
            )
        )
        for row in rows:
            if digest == row.digest or digest in set(_named(json.loads(row.manifest))):
                return "of a withdrawn version"
    return "stored by a push that was not committed"
