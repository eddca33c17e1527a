"""Changing which versions there are: the only code that writes versions to the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .canary.rows import list_running
from .errors import BaseMismatch, VersionInUse
from .events import record
from .manifest import Manifest
from .tables import adapter, base, metric, tag, version, withdrawal
from .versions import (
    Version,
    adapter_key,
    alias_targets,
    newest_version,
    now,
    select_versions,
    version_key,
)


@dataclass(frozen=True)
class NewVersion:
    """What `add_version` needs to know."""

    manifest: Manifest
    base_fingerprint: str
    by: str
    allow_new_base: bool = False
    base_name: str = ""
    tags: Sequence[str] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)


def add_version(connection: Connection, name: str, new: NewVersion) -> tuple[Version, bool]:
    """Insert the next number, or return the version that has this digest already.

    The flag says whether it was inserted; a withdrawn version comes back under its number. Raises
    `BaseMismatch` when the adapter's newest version belongs to another base and `allow_new_base`
    is not set.
    """
    adapter_id = adapter_key(connection, name)
    if adapter_id is None:
        connection.execute(sa.insert(adapter).values(name=name, created_at=now()))
        adapter_id = adapter_key(connection, name)
    same = (version.c.adapter_id == adapter_id, version.c.digest == new.manifest.digest)
    known = connection.execute(sa.select(version.c.id).where(*same)).scalar()
    if known is None:
        check_base(connection, name, new)
        known = _insert(connection, adapter_id, new)
        kind = "version.pushed"
    else:
        gone = connection.execute(sa.delete(withdrawal).where(withdrawal.c.version_id == known))
        kind = "version.restored" if gone.rowcount else ""
    _label(connection, known, new)
    (added,) = select_versions(connection, version.c.id == known)
    if kind:
        record(connection, kind, name, by=new.by, version=added.number, digest=added.digest)
    return added, kind == "version.pushed"


def check_base(connection: Connection, name: str, new: NewVersion) -> None:
    """Raise `BaseMismatch` if the adapter would move to another base without leave."""
    newest = newest_version(connection, name)
    if newest is not None and newest.base_fingerprint != new.base_fingerprint:
        _refuse_new_base(newest, new)


def _insert(connection: Connection, adapter_id: int | None, new: NewVersion) -> int:
    """Write the row of the next number; returns its key."""
    # Withdrawn versions count: a number never means two things.
    highest = connection.execute(
        sa.select(sa.func.max(version.c.number)).where(version.c.adapter_id == adapter_id)
    ).scalar()
    row = {
        "adapter_id": adapter_id,
        "number": (highest or 0) + 1,
        "digest": new.manifest.digest,
        "manifest": new.manifest.to_bytes().decode(),
        "size": new.manifest.size,
        "base_fingerprint": new.base_fingerprint,
        "created_at": now(),
        "created_by": new.by,
    }
    inserting = sa.insert(version).values(row).returning(version.c.id)
    key: int = connection.execute(inserting).scalar_one()
    return key


def _label(connection: Connection, key: int, new: NewVersion) -> None:
    """What the version can be searched by."""
    there = set(connection.execute(sa.select(tag.c.tag).where(tag.c.version_id == key)).scalars())
    for each in sorted(set(new.tags) - there):
        connection.execute(sa.insert(tag).values(version_id=key, tag=each))
    set_metrics(connection, key, new.metrics)
    known = sa.select(base).where(
        base.c.fingerprint == new.base_fingerprint, base.c.name == new.base_name
    )
    if new.base_name and connection.execute(known).first() is None:
        values = {"fingerprint": new.base_fingerprint, "name": new.base_name}
        connection.execute(sa.insert(base).values(values))


def set_metrics(connection: Connection, key: int, metrics: Mapping[str, float]) -> None:
    """Remember numbers of a version; one of the same name is replaced."""
    for name, value in metrics.items():
        mine = (metric.c.version_id == key, metric.c.name == name[:63])
        connection.execute(sa.delete(metric).where(*mine))
        row = {"version_id": key, "name": name[:63], "value": float(value)}
        connection.execute(sa.insert(metric).values(row))


def withdraw_version(connection: Connection, found: Version, *, by: str, why: str) -> None:
    """Let nobody find a version any more; raises `VersionInUse` while an alias needs it.

    Its number stays taken, and the same bytes pushed again bring it back.
    """
    pointing = [
        name
        for name, target in alias_targets(connection, found.name).items()
        if target.number == found.number
    ]
    if pointing:
        raise VersionInUse(
            f"{found.ref} cannot be withdrawn: {found.name}@{pointing[0]} points at it; point it "
            "at another version first",
            param="version",
        )
    for canary in list_running(connection, found.name):
        if canary.target.number == found.number:
            raise VersionInUse(
                f"{found.ref} cannot be withdrawn: it is the canary of {canary.ref}; abort that "
                "first",
                param="version",
            )
    key = version_key(connection, found)
    row = {"version_id": key, "at": now(), "by": by, "why": why}
    connection.execute(sa.insert(withdrawal).values(row))
    data = {"version": found.number, "digest": found.digest, "why": why}
    record(connection, "version.withdrawn", found.name, by=by, **data)


def _refuse_new_base(newest: Version, new: NewVersion) -> None:
    if new.allow_new_base:
        return
    raise BaseMismatch(
        f"{newest.ref} was trained on another base ({newest.base_fingerprint[:19]}… there, "
        f"{new.base_fingerprint[:19]}… here). Servers run one base, so a new one takes effect "
        "for every request that names the adapter: push with --allow-new-base if that is meant, "
        "or push under another name.",
        param="base",
    )
