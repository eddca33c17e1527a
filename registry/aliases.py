"""Movable names: setting one, rolling it back, and the history that is never rewritten."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .errors import AliasConflict, AliasNotFound, Forbidden, InvalidReference
from .events import record
from .references import Reference
from .tables import adapter, alias, alias_event, protected_alias, version
from .validation import near
from .versions import Version, adapter_key, alias_targets, find_version, now, version_key

ABSENT = "none"  # as `expected`: the alias must not exist yet


@dataclass(frozen=True)
class AliasMove:
    """Who moves an alias and why, and where they believe it points (None: wherever)."""

    by: str
    why: str = ""
    expected: str | int | None = None
    may_move_protected: bool = True


@dataclass(frozen=True)
class AliasEvent:
    """One move of an alias. `from_number` is None for its first."""

    name: str
    alias: str
    kind: Literal["set", "rollback"]
    at: datetime
    by: str
    why: str
    from_number: int | None
    from_digest: str | None
    to_number: int
    to_digest: str


def set_alias(connection: Connection, alias_name: str, target: Version, move: AliasMove) -> bool:
    """Point an alias at a version; the flag says whether it moved.

    Raises `AliasConflict` when it does not point where `move.expected` says.
    """
    current = alias_targets(connection, target.name).get(alias_name)
    _check_expected(target.name, alias_name, current, move.expected)
    if current is not None and current.digest == target.digest:
        return False
    _check_protection(connection, target.name, alias_name, move)
    _point(connection, alias_name, current, target, "set", move)
    return True


def roll_back(connection: Connection, name: str, alias_name: str, move: AliasMove) -> Version:
    """Point an alias where it pointed before its last standing move; returns that version.

    Rolling back twice goes two moves back, as undo does. The history only grows. Raises
    `AliasNotFound`, or `AliasConflict` when there is nothing before.
    """
    history = alias_history(connection, name, alias_name)
    current = alias_targets(connection, name)[alias_name]
    _check_expected(name, alias_name, current, move.expected)
    _check_protection(connection, name, alias_name, move)
    standing: list[int] = []
    for event in history:
        if event.kind == "rollback":
            standing.pop()
        else:
            standing.append(event.to_number)
    if len(standing) < 2:
        raise AliasConflict(
            f"{name}@{alias_name} has pointed at {current.ref} only: there is nothing to roll "
            "back to",
            param="alias",
        )
    target = find_version(connection, Reference(name, number=standing[-2]))
    _point(connection, alias_name, current, target, "rollback", move)
    return target


def alias_history(connection: Connection, name: str, alias_name: str) -> list[AliasEvent]:
    """Every move of an alias, oldest first; raises `AdapterNotFound` or `AliasNotFound`."""
    find_version(connection, Reference(name))
    before, after = version.alias("before"), version.alias("after")
    rows = connection.execute(
        sa.select(
            alias_event,
            before.c.number.label("from_number"),
            before.c.digest.label("from_digest"),
            after.c.number.label("to_number"),
            after.c.digest.label("to_digest"),
        )
        .join(adapter, adapter.c.id == alias_event.c.adapter_id)
        .join(after, after.c.id == alias_event.c.to_version_id)
        .outerjoin(before, before.c.id == alias_event.c.from_version_id)
        .where(adapter.c.name == name, alias_event.c.alias == alias_name)
        .order_by(alias_event.c.id)
    ).all()
    if not rows:
        known = alias_targets(connection, name)
        raise AliasNotFound(
            f"{name} has no alias {alias_name!r}{near(alias_name, known)}", param="alias"
        )
    return [
        AliasEvent(
            name=name,
            alias=row.alias,
            kind=row.kind,
            at=row.at.replace(tzinfo=UTC),
            by=row.by,
            why=row.why,
            from_number=row.from_number,
            from_digest=row.from_digest,
            to_number=row.to_number,
            to_digest=row.to_digest,
        )
        for row in rows
    ]


def protect_alias(
    connection: Connection, name: str, alias_name: str, *, is_protected: bool, by: str
) -> None:
    """Let only those with the verb `protect` move an alias, or anybody again."""
    find_version(connection, Reference(name))
    key = adapter_key(connection, name)
    if (alias_name in protected_aliases(connection, name)) == is_protected:
        return
    if is_protected:
        connection.execute(sa.insert(protected_alias).values(adapter_id=key, name=alias_name))
    else:
        mine = (protected_alias.c.adapter_id == key, protected_alias.c.name == alias_name)
        connection.execute(sa.delete(protected_alias).where(*mine))
    kind = "alias.protected" if is_protected else "alias.unprotected"
    record(connection, kind, name, by=by, alias=alias_name)


def protected_aliases(connection: Connection, name: str) -> set[str]:
    """The aliases of an adapter that are protected, whether or not they are set."""
    query = sa.select(protected_alias.c.name).where(
        protected_alias.c.adapter_id == adapter_key(connection, name)
    )
    return set(connection.execute(query).scalars())


def _check_protection(connection: Connection, name: str, alias_name: str, move: AliasMove) -> None:
    if not move.may_move_protected and alias_name in protected_aliases(connection, name):
        raise Forbidden(
            f"{name}@{alias_name} is protected: a key needs the verb 'protect' to move it",
            param="alias",
        )


def _point(
    connection: Connection,
    alias_name: str,
    current: Version | None,
    target: Version,
    kind: Literal["set", "rollback"],
    move: AliasMove,
) -> None:
    """Move the alias and write the event, in the caller's transaction."""
    adapter_id, target_id = adapter_key(connection, target.name), version_key(connection, target)
    at = now()
    if current is None:
        row = {"adapter_id": adapter_id, "name": alias_name, "version_id": target_id}
        connection.execute(sa.insert(alias).values(updated_at=at, **row))
    else:
        connection.execute(
            sa.update(alias)
            .where(alias.c.adapter_id == adapter_id, alias.c.name == alias_name)
            .values(version_id=target_id, updated_at=at)
        )
    event = {
        "adapter_id": adapter_id,
        "alias": alias_name,
        "kind": kind,
        "from_version_id": None if current is None else version_key(connection, current),
        "to_version_id": target_id,
        "at": at,
        "by": move.by,
        "why": move.why,
    }
    connection.execute(sa.insert(alias_event).values(event))
    record(
        connection,
        f"alias.{kind}",
        target.name,
        by=move.by,
        alias=alias_name,
        version=target.number,
        digest=target.digest,
        previous=None if current is None else current.number,
        why=move.why,
    )


def _check_expected(
    name: str, alias_name: str, current: Version | None, expected: str | int | None
) -> None:
    """Compare-and-set: refuse a move made in ignorance of somebody else's."""
    if expected is None:
        return
    if _is_expected(current, str(expected), name):
        return
    where = "does not exist" if current is None else f"points at {current.ref} ({current.digest})"
    raise AliasConflict(
        f"{name}@{alias_name} {where}, not at {expected} as expected: somebody moved it. Look at "
        f"`registry alias history {name} {alias_name}` and decide again.",
        param="expected",
    )


def _is_expected(current: Version | None, expected: str, name: str) -> bool:
    if expected == ABSENT:
        return current is None
    reference = Reference.parse(expected if "@" in expected else f"{name}@{expected}")
    if reference.alias is not None or (reference.number is None and reference.digest is None):
        raise InvalidReference(
            f"expected={expected!r} must be a version number, a digest or {ABSENT!r}",
            param="expected",
        )
    if current is None or reference.name != current.name:
        return False
    if reference.number is not None:
        return reference.number == current.number
    return current.digest.startswith(reference.digest or "")
