"""Responses that are kept, so that a conversation can go on from one of them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from registry.homes import hatstand_home
from registry.stores import Store

from .items import Message

RESPONSES_VARIABLE = "HATSTAND_RESPONSES"
DAYS = 30  # as OpenAI keeps them
MOST_PER_OWNER = 10_000

metadata = sa.MetaData()
table = sa.Table(
    "response",
    metadata,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("owner", sa.String(64), nullable=False, index=True),
    sa.Column("kept_at", sa.Integer, nullable=False, index=True),  # Unix seconds
    sa.Column("messages", sa.JSON, nullable=False),
    sa.Column("input_items", sa.JSON, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
)


@dataclass(frozen=True)
class KeptResponse:
    """`messages` are the chat up to and with the answer; `owner` is who may see it."""

    id: str
    owner: str
    messages: Sequence[Message]
    input_items: Sequence[dict[str, Any]]
    document: dict[str, Any]


class ResponseStore:
    """Kept for 30 days, the newest ten thousand of each key. From any thread or process."""

    def __init__(self, location: str | Path) -> None:
        """Raises `CatalogUnavailable`."""
        self._store = Store(location, metadata, name="the responses")

    def keep(self, response: KeptResponse) -> None:
        now = int(time.time())
        with self._store.write() as connection:
            connection.execute(sa.insert(table).values(**vars(response), kept_at=now))
            connection.execute(sa.delete(table).where(table.c.kept_at < now - DAYS * 86_400))
            oldest = (
                sa.select(table.c.key)
                .where(table.c.owner == response.owner)
                .order_by(table.c.key.desc())
                .offset(MOST_PER_OWNER)
                .limit(1)
                .scalar_subquery()
            )
            mine = table.c.owner == response.owner
            connection.execute(sa.delete(table).where(mine, table.c.key <= oldest))

    def find(self, response_id: str, owner: str) -> KeptResponse | None:
        """None also for one that belongs to somebody else."""
        with self._store.read() as connection:
            row = connection.execute(
                sa.select(table).where(table.c.id == response_id, table.c.owner == owner)
            ).one_or_none()
        if row is None:
            return None
        return KeptResponse(row.id, row.owner, row.messages, row.input_items, row.document)

    def remove(self, response_id: str, owner: str) -> bool:
        """False if there was none."""
        mine = (table.c.id == response_id, table.c.owner == owner)
        with self._store.write() as connection:
            return connection.execute(sa.delete(table).where(*mine)).rowcount > 0

    def close(self) -> None:
        self._store.close()


def open_responses() -> ResponseStore:
    """In the file or the database that `HATSTAND_RESPONSES` names, else at home.

    Replicas that should find each other's need one database. Raises `CatalogUnavailable`.
    """
    where = os.environ.get(RESPONSES_VARIABLE) or hatstand_home() / "responses.sqlite"
    return ResponseStore(where if "://" in os.fspath(where) else Path(where).absolute())
