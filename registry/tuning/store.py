"""Transactions on a small database of a server's own: SQLite beside it, or PostgreSQL."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from registry.databases import open_database, write_options
from registry.errors import CatalogUnavailable

from .tables import metadata


class Store:
    """Transactions from any thread or process; tables are made where they are missing."""

    def __init__(
        self, location: str | Path, tables: sa.MetaData = metadata, *, name: str = "the queue"
    ) -> None:
        """Open a file, or a `sqlite:///` or `postgresql://` URL. Raises `CatalogUnavailable`.

        `name` is what messages call it.
        """
        self._name = name
        if isinstance(location, Path):
            location.parent.mkdir(parents=True, exist_ok=True)
        self._database = open_database(location)
        with self._errors():
            self._database.prepare()
            with self.write() as connection:
                tables.create_all(connection)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view."""
        with self._errors(), self._database.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One writer at a time; committed at the end, rolled back on any exception."""
        with (
            self._errors(),
            self._database.engine.connect() as connection,
            write_options(connection).begin(),
        ):
            self._database.begin_write(connection)
            yield connection

    def close(self) -> None:
        """Let go of connections that are kept open."""
        self._database.engine.dispose()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # the code broke a rule of the tables: a bug
        except DBAPIError as failure:
            raise CatalogUnavailable(
                f"{self._name} {self._database.label} cannot be used: {failure.orig}"
            ) from failure


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
