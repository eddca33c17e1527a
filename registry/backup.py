"""A registry copied whole, while others push to it; and made again from the copy.

A backup is a registry itself: SQLite and blobs in one folder, whatever it was made from, so that it
can be looked at, served and verified as it lies there. Copied onto another kind of database it is
also how a registry moves there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .blobs import Blobs
from .canonical import Progress
from .catalog import Catalog
from .collection import needed_blobs
from .embedded import CATALOG_FILE, Registry
from .errors import BlobNotFound, Corrupted, DestinationExists
from .staging import StagingArea
from .tables import metadata

_ATTEMPTS = 5  # of a backup under which a collection takes what it is copying
_ROWS = 1000  # written at once


@dataclass(frozen=True)
class Backup:
    """What one copy came to."""

    num_versions: int
    num_blobs: int  # in all
    num_copied: int  # of those, that were not there before


def back_up(registry: Registry, folder: Path, progress: Progress | None = None) -> Backup:
    """Copy a registry as it is at one moment into `folder`; what is there already stays.

    The catalog is copied first, in one transaction, then the blobs that it names. One that has gone
    by then was of a version withdrawn and collected meanwhile: then the copy is begun anew. Killed
    half-way, the backup before is still whole. Raises `DestinationExists` for a folder in use.
    """
    folder = folder.expanduser().absolute()
    if folder == registry.folder:
        raise DestinationExists(f"{folder} is the registry itself: name another folder")
    target = Registry.open(folder)
    for attempt in range(1, _ATTEMPTS + 1):
        fresh = folder / f"{CATALOG_FILE}.new"
        try:
            backup = _copy_into(registry, fresh, target, progress)
        except BlobNotFound:
            if attempt == _ATTEMPTS:
                raise
        else:
            break
    target.close()
    _exchange(fresh, folder / CATALOG_FILE)
    return backup


def restore(folder: Path, registry: Registry, progress: Progress | None = None) -> Backup:
    """Make an empty registry, of any kind, what the backup in `folder` is.

    Blobs come first, the catalog in one transaction after them: nobody sees half of it. Raises
    `DestinationExists` where anything is registered already, or keys are.
    """
    if not (folder / CATALOG_FILE).is_file():
        raise Corrupted(f"{folder} is no backup: it has no {CATALOG_FILE}", param="folder")
    source = Registry.open(folder)
    with source.catalog.read() as connection:
        digests = needed_blobs(connection)
        with registry.catalog.write() as writing:
            _check_empty(writing, registry.catalog.label)
        copied = _copy_blobs(digests, source.blobs, registry.blobs, registry.staging, progress)
        with registry.catalog.write() as writing:
            _check_empty(writing, registry.catalog.label)
            _copy_rows(connection, writing)
            return Backup(_count_versions(writing), len(digests), copied)


def _copy_into(
    registry: Registry, fresh: Path, target: Registry, progress: Progress | None
) -> Backup:
    """The catalog into a new file, and what it names into the target's blobs."""
    _remove(fresh)
    catalog = Catalog(fresh)
    with registry.catalog.read() as reading, catalog.write() as writing:
        _copy_rows(reading, writing)
    with catalog.read() as connection:
        digests, num_versions = needed_blobs(connection), _count_versions(connection)
    copied = _copy_blobs(digests, registry.blobs, target.blobs, target.staging, progress)
    catalog.close()
    return Backup(num_versions, len(digests), copied)


def _copy_rows(source: Connection, target: Connection) -> None:
    for table in metadata.sorted_tables:
        rows = source.execute(sa.select(table)).mappings()
        while page := rows.fetchmany(_ROWS):
            target.execute(table.insert(), [dict(row) for row in page])
        if target.dialect.name == "postgresql" and "id" in table.c:
            _move_sequence_on(target, table)


def _move_sequence_on(target: Connection, table: sa.Table) -> None:
    """PostgreSQL numbers from where its own rows ended, which were none."""
    sequence = sa.func.pg_get_serial_sequence(table.name, "id")
    if target.execute(sa.select(sequence)).scalar() is not None:
        newest = sa.select(sa.func.max(table.c.id)).scalar_subquery()
        target.execute(sa.select(sa.func.setval(sequence, newest)))


def _copy_blobs(
    digests: Iterable[str],
    source: Blobs,
    target: Blobs,
    staging: StagingArea,
    progress: Progress | None,
) -> int:
    """Those that are not there; each is hashed on its way. Returns how many."""
    missing = [digest for digest in sorted(digests) if target.find(digest) is None]
    for done, digest in enumerate(missing, 1):
        with staging.stage() as staged:
            copy = staged.add_pieces(source.read(digest), limit=_size(source, digest))
            if copy.digest != digest:
                raise Corrupted(
                    f"blob {digest} hashes to {copy.digest}: its bytes changed; `registry verify` "
                    "names the versions that it is part of",
                    param=digest,
                )
            staged.publish(target)
        if progress is not None:
            progress("copying blobs", done, len(missing))
    return len(missing)


def _size(blobs: Blobs, digest: str) -> int:
    found = blobs.find(digest)
    if found is None:
        raise BlobNotFound(f"blob {digest} is missing from the registry", param=digest)
    return found.size


def _check_empty(connection: Connection, label: str) -> None:
    for table in metadata.sorted_tables:
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
            raise DestinationExists(
                f"the catalog {label} is not empty (it has rows in {table.name}): a backup is "
                "restored into a new one",
                param="registry",
            )


def _count_versions(connection: Connection) -> int:
    table = metadata.tables["version"]
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def _exchange(fresh: Path, catalog: Path) -> None:
    """The new catalog in the old one's place; what an interrupted reader left beside that goes."""
    for suffix in ("-wal", "-shm"):
        catalog.with_name(catalog.name + suffix).unlink(missing_ok=True)
    os.replace(fresh, catalog)  # noqa: PTH105
    handle = os.open(catalog.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(catalog: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        catalog.with_name(catalog.name + suffix).unlink(missing_ok=True)
