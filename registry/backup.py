"""A registry copied whole, while others push to it; and made again from the copy.

A backup is a registry itself: SQLite and blobs in one folder, whatever it was made from, so that it
can be looked at, served and verified as it lies there. Copied onto another kind of database it is
also how a registry moves there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .blobs import Blobs
from .canonical import Progress
from .catalog import Catalog
from .collection import needed_blobs
from .embedded import BACKUP_MARK, CATALOG_FILE, Registry
from .errors import BlobNotFound, Corrupted, DestinationExists
from .staging import StagingArea
from .tables import event, metadata

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
    half-way, the backup before is still whole. Raises `DestinationExists` for the registry's own
    folder, and for one that holds anything but an earlier backup of it.
    """
    folder = folder.expanduser().absolute()
    if folder.resolve() == registry.folder.resolve():
        raise DestinationExists(f"{folder} is the registry itself: name another folder")
    fresh = folder / f"{CATALOG_FILE}.new"
    with closing(Registry.open(folder)) as target:
        _check_earlier(target, registry)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                backup = _copy_into(registry, fresh, target, progress)
            except BlobNotFound:
                if attempt == _ATTEMPTS:
                    raise
            else:
                break
    (folder / BACKUP_MARK).touch()
    _exchange(fresh, folder / CATALOG_FILE)
    return backup


def restore(folder: Path, registry: Registry, progress: Progress | None = None) -> Backup:
    """Make an empty registry, of any kind, what the backup in `folder` is.

    Blobs come first, the catalog in one transaction after them: nobody sees half of it. Raises
    `DestinationExists` where anything is registered already, or keys are.
    """
    if not (folder / CATALOG_FILE).is_file():
        raise Corrupted(f"{folder} is no backup: it has no {CATALOG_FILE}", param="folder")
    with closing(Registry.open(folder)) as source, source.catalog.read() as connection:
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
    with closing(Catalog(fresh)) as catalog:
        with registry.catalog.read() as reading, catalog.write() as writing:
            _copy_rows(reading, writing)
        with catalog.read() as connection:
            digests, num_versions = needed_blobs(connection), _count_versions(connection)
    copied = _copy_blobs(digests, registry.blobs, target.blobs, target.staging, progress)
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


def _check_earlier(target: Registry, registry: Registry) -> None:
    """Events are only ever added: a backup's last one is the registry's too."""
    last = sa.select(event).order_by(event.c.id.desc()).limit(1)
    with target.catalog.read() as connection:
        newest = connection.execute(last).one_or_none()
    if newest is None:
        return
    with registry.catalog.read() as connection:
        same = connection.execute(sa.select(event).where(event.c.id == newest.id)).one_or_none()
    if same is None or tuple(same) != tuple(newest):
        raise DestinationExists(
            f"{target.folder} is no earlier backup of this registry: something else was pushed or "
            "moved there; name another folder"
        )


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
