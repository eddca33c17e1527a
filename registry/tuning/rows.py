"""Rows of the queue's tables: their ids, and a page of them."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy.engine import Connection


def new_id(kind: str) -> str:
    """An id in OpenAI's style: `ftjob-` and 24 hex digits."""
    return f"{kind}-{secrets.token_hex(12)}"


def page(
    connection: Connection,
    table: sa.Table,
    *conditions: sa.ColumnElement[bool],
    after: str | None,
    limit: int,
) -> tuple[list[sa.Row[tuple[object, ...]]], bool]:
    """Rows newest first, those older than the one with id `after`, and whether more follow."""
    query = sa.select(table).where(*conditions).order_by(table.c.key.desc()).limit(limit + 1)
    if after is not None:
        older = sa.select(table.c.key).where(table.c.id == after).scalar_subquery()
        query = query.where(table.c.key < older)
    rows = list(connection.execute(query))
    return rows[:limit], len(rows) > limit
