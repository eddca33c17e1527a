"""The end of a canary, in the transaction of whoever decides it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.alias_history import write_alias_event
from registry.tables import canary_report
from registry.versions import now

from .record import Canary, State
from .rows import find_running, update_canary


def abort_running(
    connection: Connection, name: str, alias_name: str, *, by: str, why: str
) -> Canary | None:
    """End the canary that runs on an alias, if one does; returns it as it was."""
    running = find_running(connection, name, alias_name)
    if running is not None:
        abort(connection, running, by=by, why=why)
    return running


def abort(connection: Connection, running: Canary, *, by: str, why: str) -> None:
    """Give all requests back to the version that the alias points at."""
    write_alias_event(
        connection,
        running.alias,
        "canary.abort",
        before=running.target,
        after=running.stable,
        by=by,
        why=why,
        weight=0,
    )
    close(connection, running, "aborted", why)


def close(connection: Connection, running: Canary, state: State, verdict: str) -> None:
    """Write how it ended; its servers' reports are not needed any more."""
    update_canary(connection, running.id, state=state, ended_at=now(), verdict=verdict)
    connection.execute(sa.delete(canary_report).where(canary_report.c.canary_id == running.id))
