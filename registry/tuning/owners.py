"""Whose a file or a job is, where several share one queue without seeing one another's."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from . import tables

NOBODY = ""  # makes what has no owner, and sees everything


def is_seen_by(owner: str, table: sa.Table) -> sa.ColumnElement[bool]:
    """The condition on files or jobs that an owner sees: their own; `NOBODY` sees all."""
    if owner == NOBODY:
        return sa.true()
    mine = sa.select(tables.ownership.c.id).where(tables.ownership.c.owner == owner)
    return table.c.id.in_(mine)


def find(connection: Connection, table: sa.Table, thing: str, owner: str) -> Any:
    """The row of the file or job of the id `thing`; None where its owner sees none."""
    seen = is_seen_by(owner, table)
    return connection.execute(sa.select(table).where(table.c.id == thing, seen)).first()


def give(connection: Connection, thing: str, owner: str) -> None:
    """Note whose the file or job of the id `thing` is."""
    if owner != NOBODY:
        values = {"id": thing, "owner": owner}
        connection.execute(sa.insert(tables.ownership).values(values))


def give_as(connection: Connection, thing: str, like: str) -> None:
    """Give what a job left behind to whoever has the job, whose id is `like`."""
    query = sa.select(tables.ownership.c.owner).where(tables.ownership.c.id == like)
    give(connection, thing, connection.execute(query).scalar() or NOBODY)


def forget(connection: Connection, thing: str) -> None:
    """It has been deleted."""
    connection.execute(sa.delete(tables.ownership).where(tables.ownership.c.id == thing))
