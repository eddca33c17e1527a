"""Beginning a canary, giving it more requests, and making its version the alias's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Literal

from sqlalchemy.engine import Connection

from registry.alias_history import write_alias_event
from registry.aliases import AliasMove, check_expected, check_protection, point
from registry.errors import (
    AliasNotFound,
    BaseMismatch,
    CanaryConflict,
    CanaryNotFound,
    InvalidRequest,
)
from registry.validation import near
from registry.versions import Version, alias_targets, now

from . import ending
from .record import Canary
from .rows import find_running, insert_canary, update_canary
from .rules import Rules


def start(
    connection: Connection, alias_name: str, target: Version, rules: Rules, move: AliasMove
) -> Canary:
    """Send a part of an alias's requests to `target`, as the rules' first step says.

    `move.expected` is where the alias points. Raises `AliasNotFound`, `AliasConflict`,
    `CanaryConflict` where one runs already, `BaseMismatch`, or `InvalidRequest`.
    """
    aliases = alias_targets(connection, target.name)
    ref = f"{target.name}@{alias_name}"
    if alias_name not in aliases:
        raise AliasNotFound(
            f"{target.name} has no alias {alias_name!r}{near(alias_name, aliases)}: a canary "
            "splits the requests of an alias that points somewhere",
            param="alias",
        )
    stable = aliases[alias_name]
    check_expected(target.name, alias_name, stable, move.expected)
    check_protection(connection, target.name, alias_name, move)
    if stable.digest == target.digest:
        raise InvalidRequest(f"{ref} points at {target.ref} already", param="target")
    if stable.base_fingerprint != target.base_fingerprint:
        raise BaseMismatch(
            f"{target.ref} was trained on another base than {stable.ref}: no server runs both",
            param="target",
        )
    if find_running(connection, target.name, alias_name) is not None:
        raise CanaryConflict(f"{ref} has a canary already: let it end, or abort it", param="alias")
    at = now().replace(tzinfo=UTC)
    new = Canary(
        id=0,
        name=target.name,
        alias=alias_name,
        stable=stable,
        target=target,
        rules=rules,
        step=0,
        state="running",
        started_at=at,
        step_at=at,
        ended_at=None,
        by=move.by,
        why=move.why,
        verdict="",
    )
    made = replace(new, id=insert_canary(connection, new))
    _tell(connection, made, "canary.start", move)
    return made


def check_running(
    connection: Connection, name: str, alias_name: str, expected: str | None
) -> Canary:
    """The canary that runs on an alias; raises `CanaryNotFound`, or `CanaryConflict`.

    `expected` is its ETag as the caller knows it, None for whatever it is by now.
    """
    running = find_running(connection, name, alias_name)
    if running is None:
        raise CanaryNotFound(f"no canary runs on {name}@{alias_name}", param="alias")
    if expected is not None and expected != running.etag:
        raise CanaryConflict(
            f"the canary on {running.ref} is {running.etag} by now, at {running.weight}%, not "
            f"{expected}: look at `registry canary status {name} {alias_name}` and decide again",
            param="expected",
        )
    return running


def advance(connection: Connection, running: Canary, move: AliasMove) -> Canary:
    """Begin the next step; after the last, point the alias at the canary's version."""
    check_protection(connection, running.name, running.alias, move)
    if running.step == len(running.rules.steps) - 1:
        return _promote(connection, running, move)
    at = now()
    update_canary(connection, running.id, step=running.step + 1, step_at=at, verdict=move.why)
    moved = replace(
        running, step=running.step + 1, step_at=at.replace(tzinfo=UTC), verdict=move.why
    )
    _tell(connection, moved, "canary.advance", move)
    return moved


def _promote(connection: Connection, running: Canary, move: AliasMove) -> Canary:
    ending.close(connection, running, "promoted", move.why)
    point(
        connection,
        running.alias,
        running.stable,
        running.target,
        "canary.promote",
        move,
        weight=100,
    )
    at = now().replace(tzinfo=UTC)
    return replace(running, state="promoted", ended_at=at, verdict=move.why)


def _tell(
    connection: Connection,
    canary: Canary,
    kind: Literal["canary.start", "canary.advance"],
    move: AliasMove,
) -> None:
    write_alias_event(
        connection,
        canary.alias,
        kind,
        before=canary.stable,
        after=canary.target,
        by=move.by,
        why=move.why,
        weight=canary.weight,
    )
