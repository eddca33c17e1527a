"""Movable names: setting one, rolling it back, protecting it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .alias_history import AliasEvent, AliasKind, alias_history, standing_moves, write_alias_event
from .canary.ending import abort_running
from .canary.rows import find_running
from .errors import AliasConflict, Forbidden, InvalidReference, VersionNotFound
from .events import record
from .references import Reference
from .tables import alias, protected_alias
from .versions import Version, adapter_key, alias_targets, find_version, now, version_key

ABSENT = "none"  # as `expected`: the alias must not exist yet


@dataclass(frozen=True)
class AliasMove:
    """Who moves an alias and why, and where they believe it points (None: wherever)."""

    by: str
    why: str = ""
    expected: str | int | None = None
    may_move_protected: bool = True


def set_alias(connection: Connection, alias_name: str, target: Version, move: AliasMove) -> bool:
    """Point an alias at a version; the flag says whether it moved.

    A canary that runs on the alias ends: whoever says where the alias points means all requests.
    Raises `AliasConflict` when it does not point where `move.expected` says.
    """
    current = alias_targets(connection, target.name).get(alias_name)
    check_expected(target.name, alias_name, current, move.expected)
    is_there = current is not None and current.digest == target.digest
    if is_there and find_running(connection, target.name, alias_name) is None:
        return False
    check_protection(connection, target.name, alias_name, move)
    abort_running(connection, target.name, alias_name, by=move.by, why=move.why)
    if is_there:
        return False
    point(connection, alias_name, current, target, "set", move)
    return True


def roll_back(connection: Connection, name: str, alias_name: str, move: AliasMove) -> Version:
    """Point an alias where it pointed before its last standing move; returns that version.

    Rolling back twice goes two moves back, as undo does. The history only grows. While a canary
    runs, the canary is what is undone, and the alias stays. Raises `AliasNotFound`, or
    `AliasConflict` when there is nothing before.
    """
    history = alias_history(connection, name, alias_name)
    current = alias_targets(connection, name)[alias_name]
    check_expected(name, alias_name, current, move.expected)
    check_protection(connection, name, alias_name, move)
    if abort_running(connection, name, alias_name, by=move.by, why=move.why):
        return current
    standing = standing_moves(history)
    if len(standing) < 2:
        raise _nothing_before(current, alias_name, history)
    try:
        target = find_version(connection, Reference(name, number=standing[-2]))
    except VersionNotFound:
        raise _withdrawn_before(current, alias_name, standing[-2]) from None
    point(connection, alias_name, current, target, "rollback", move)
    return target


def _withdrawn_before(current: Version, alias_name: str, number: int) -> AliasConflict:
    name = current.name
    return AliasConflict(
        f"{name}@{alias_name} pointed at {name}@{number} before, which is withdrawn: `registry "
        f"alias set {name} {alias_name} VERSION` points it at another",
        param="alias",
    )


def _nothing_before(current: Version, alias_name: str, history: list[AliasEvent]) -> AliasConflict:
    name = current.name
    undone = [event.from_number for event in history if event.kind == "rollback"]
    if undone:
        why = (
            f"every move of {name}@{alias_name} after its first, to {current.ref}, is rolled back: "
            f"there is nothing to roll back to. `registry alias set {name} {alias_name} "
            f"{undone[-1]}` points it at {name}@{undone[-1]} again."
        )
    else:
        why = (
            f"{name}@{alias_name} has pointed at {current.ref} only: there is nothing to roll "
            "back to"
        )
    return AliasConflict(why, param="alias")


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


def check_protection(connection: Connection, name: str, alias_name: str, move: AliasMove) -> None:
    """Raise `Forbidden` where the alias is protected from whoever moves it."""
    if not move.may_move_protected and alias_name in protected_aliases(connection, name):
        raise Forbidden(
            f"{name}@{alias_name} is protected: a key needs the verb 'protect' to move it",
            param="alias",
        )


def point(
    connection: Connection,
    alias_name: str,
    current: Version | None,
    target: Version,
    kind: AliasKind,
    move: AliasMove,
    *,
    weight: int | None = None,
) -> None:
    """Move the alias and write the event, in the caller's transaction."""
    adapter_id, target_id = adapter_key(connection, target.name), version_key(connection, target)
    if current is None:
        row = {"adapter_id": adapter_id, "name": alias_name, "version_id": target_id}
        connection.execute(sa.insert(alias).values(updated_at=now(), **row))
    else:
        connection.execute(
            sa.update(alias)
            .where(alias.c.adapter_id == adapter_id, alias.c.name == alias_name)
            .values(version_id=target_id, updated_at=now())
        )
    write_alias_event(
        connection,
        alias_name,
        kind,
        before=current,
        after=target,
        by=move.by,
        why=move.why,
        weight=weight,
    )


def check_expected(
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
