"""The history of an alias: every move and every decision, never rewritten."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .events import record
from .references import Reference
from .tables import adapter, alias_event, version
from .versions import Version, adapter_key, alias_targets, find_version, no_alias, now, version_key

AliasKind = Literal[
    "set", "rollback", "canary.start", "canary.advance", "canary.abort", "canary.promote"
]
_MOVES = ("set", "canary.promote")  # after these the alias points at `to`, until rolled back


@dataclass(frozen=True)
class AliasEvent:
    """One move of an alias, or one decision about its canary.

    `from_number` is None for its first. `weight` is the canary's share of requests after the event,
    in per cent, and None for what concerns none; a canary's events name the version that the alias
    points at and the canary's.
    """

    name: str
    alias: str
    kind: AliasKind
    at: datetime
    by: str
    why: str
    from_number: int | None
    from_digest: str | None
    to_number: int
    to_digest: str
    weight: int | None = None


def standing_moves(history: list[AliasEvent]) -> list[int]:
    """The version numbers that the alias was moved to and not rolled back from, oldest first."""
    standing: list[int] = []
    for event in history:
        if event.kind == "rollback":
            standing.pop()
        elif event.kind in _MOVES:
            standing.append(event.to_number)
    return standing


def alias_history(connection: Connection, name: str, alias_name: str) -> list[AliasEvent]:
    """Every event of an alias, oldest first; raises `AdapterNotFound` or `AliasNotFound`."""
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
        raise no_alias(name, alias_name, known)
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
            weight=row.weight,
        )
        for row in rows
    ]


def write_alias_event(
    connection: Connection,
    alias_name: str,
    kind: AliasKind,
    *,
    before: Version | None,
    after: Version,
    by: str,
    why: str,
    weight: int | None = None,
) -> None:
    """Add to the history and to the feed, in the transaction of what it tells of."""
    row = {
        "adapter_id": adapter_key(connection, after.name),
        "alias": alias_name,
        "kind": kind,
        "from_version_id": None if before is None else version_key(connection, before),
        "to_version_id": version_key(connection, after),
        "at": now(),
        "by": by,
        "why": why,
        "weight": weight,
    }
    connection.execute(sa.insert(alias_event).values(row))
    record(
        connection,
        f"alias.{kind}",
        after.name,
        by=by,
        alias=alias_name,
        version=after.number,
        digest=after.digest,
        previous=None if before is None else before.number,
        why=why,
        **({} if weight is None else {"weight": weight}),
    )
