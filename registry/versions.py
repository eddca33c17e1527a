"""Versions in the catalog: finding the one that a reference means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from .errors import (
    AdapterNotFound,
    AliasNotFound,
    AmbiguousReference,
    VersionNotFound,
)
from .manifest import Manifest
from .references import Reference
from .report import Report
from .tables import adapter, alias, version, withdrawal
from .validation import near

DEFAULT_ALIAS = "prod"  # what a bare name means, once it is set


@dataclass(frozen=True)
class Version:
    """One immutable version of an adapter.

    `digest` is the sha256 of the manifest's bytes, `size` the bytes of all files. `report` and
    `is_new` are set on what a push returns: what the lint measured, and whether the version was
    not there before.
    """

    name: str
    number: int
    digest: str
    created_at: datetime
    created_by: str
    manifest: Manifest = field(repr=False)
    size: int
    base_fingerprint: str
    report: Report | None = field(default=None, compare=False, repr=False)
    is_new: bool = field(default=False, compare=False, repr=False)

    @property
    def ref(self) -> str:
        """`name@number`, for people and logs."""
        return f"{self.name}@{self.number}"


def now() -> datetime:
    """The time as the catalog keeps it: UTC, to the microsecond, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def find_version(connection: Connection, reference: Reference) -> Version:
    """What a reference means now; raises a `NotFound` naming near matches, or is ambiguous."""
    adapter_id = adapter_key(connection, reference.name)
    if adapter_id is None:
        names = connection.execute(sa.select(adapter.c.name).order_by(adapter.c.name)).scalars()
        raise _no_adapter(reference.name, list(names))
    if reference.number is not None:
        return _by_number(connection, reference)
    if reference.digest is not None:
        return _by_digest(connection, reference)
    aliases = alias_targets(connection, reference.name)
    if reference.alias is not None:
        if reference.alias not in aliases:
            raise no_alias(reference.name, reference.alias, aliases)
        return aliases[reference.alias]
    newest = aliases.get(DEFAULT_ALIAS) or newest_version(connection, reference.name)
    if newest is None:
        raise VersionNotFound(f"{reference.name} has no versions", param="version")
    return newest


def list_versions(connection: Connection, name: str) -> list[Version]:
    """All versions of an adapter, oldest first; raises `AdapterNotFound`."""
    find_version(connection, Reference(name))
    return select_versions(connection, adapter.c.name == name)


def every_version(connection: Connection) -> list[Version]:
    """All versions of all adapters, by name and number."""
    return select_versions(connection)


def alias_targets(connection: Connection, name: str) -> dict[str, Version]:
    """Alias → version, by alias name."""
    rows = connection.execute(
        sa.select(alias.c.name.label("alias"), *_COLUMNS)
        .select_from(_VERSIONS.join(alias, alias.c.version_id == version.c.id))
        .where(adapter.c.name == name)
        .order_by(alias.c.name)
    ).mappings()
    return {row["alias"]: _version(row) for row in rows}


def adapter_key(connection: Connection, name: str) -> int | None:
    """The adapter's key in the tables."""
    key: int | None = connection.execute(
        sa.select(adapter.c.id).where(adapter.c.name == name)
    ).scalar()
    return key


def version_key(connection: Connection, found: Version) -> int:
    """The version's key in the tables."""
    key: int = connection.execute(
        sa.select(version.c.id).where(
            version.c.adapter_id == adapter_key(connection, found.name),
            version.c.number == found.number,
        )
    ).scalar_one()
    return key


_VERSIONS = version.join(adapter, adapter.c.id == version.c.adapter_id)
STANDING = ~sa.exists().where(withdrawal.c.version_id == version.c.id)  # not withdrawn
_COLUMNS = (
    adapter.c.name,
    version.c.number,
    version.c.digest,
    version.c.manifest,
    version.c.size,
    version.c.base_fingerprint,
    version.c.created_at,
    version.c.created_by,
)


def select_versions(
    connection: Connection, *conditions: sa.ColumnElement[bool], withdrawn: bool = False
) -> list[Version]:
    """Versions by conditions on the tables, ordered by name and number; `withdrawn` ones too?"""
    standing = () if withdrawn else (STANDING,)
    rows = connection.execute(
        sa.select(*_COLUMNS)
        .select_from(_VERSIONS)
        .where(*standing, *conditions)
        .order_by(adapter.c.name, version.c.number)
    ).mappings()
    return [_version(row) for row in rows]


def _version(row: RowMapping) -> Version:
    return Version(
        name=row[adapter.c.name],
        number=row[version.c.number],
        digest=row[version.c.digest],
        created_at=row[version.c.created_at].replace(tzinfo=UTC),
        created_by=row[version.c.created_by],
        manifest=Manifest.from_bytes(row[version.c.manifest].encode()),
        size=row[version.c.size],
        base_fingerprint=row[version.c.base_fingerprint],
    )


def newest_version(connection: Connection, name: str) -> Version | None:
    """The standing version with the highest number."""
    row = (
        connection.execute(
            sa.select(*_COLUMNS)
            .select_from(_VERSIONS)
            .where(STANDING, adapter.c.name == name)
            .order_by(version.c.number.desc())
            .limit(1)
        )
        .mappings()
        .first()
    )
    return None if row is None else _version(row)


def _by_number(connection: Connection, reference: Reference) -> Version:
    found = select_versions(
        connection, adapter.c.name == reference.name, version.c.number == reference.number
    )
    if found:
        return found[0]
    newest = newest_version(connection, reference.name)
    raise VersionNotFound(
        f"{reference.name} has no version {reference.number}; the newest is "
        f"{newest.number if newest else 'none'}",
        param="version",
    )


def _by_digest(connection: Connection, reference: Reference) -> Version:
    prefix = reference.digest or ""
    found = select_versions(
        connection,
        adapter.c.name == reference.name,
        version.c.digest.startswith(prefix, autoescape=True),
    )
    if not found:
        raise VersionNotFound(f"{reference.name} has no version {prefix}", param="version")
    if len(found) > 1:
        candidates = ", ".join(f"{each.ref} is {each.digest}" for each in found)
        raise AmbiguousReference(
            f"{prefix} fits {len(found)} versions of {reference.name}: {candidates}",
            param="version",
        )
    return found[0]


def no_alias(name: str, wanted: str, known: Iterable[str]) -> AliasNotFound:
    """What to raise for an alias that is not set; the message names those that are."""
    hint = near(wanted, known) or f"; set: {', '.join(sorted(known)) or 'none'}"
    return AliasNotFound(f"{name} has no alias {wanted!r}{hint}", param="alias")


def _no_adapter(name: str, known: Sequence[str]) -> AdapterNotFound:
    hint = near(name, known)
    if not hint:
        hint = "; the registry is empty" if not known else f"; there are: {_some(known)}"
    return AdapterNotFound(f"no adapter {name!r}{hint}", param="name")


def _some(names: Sequence[str], many: int = 8) -> str:
    more = f" and {len(names) - many} more" if len(names) > many else ""
    return ", ".join(names[:many]) + more
