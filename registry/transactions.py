"""Transactions on one database: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .commit_watch import Stamp
from .databases import open_database, write_options
from .errors import CatalogUnavailable, InvalidRequest


class Transactions:
    """From any thread or process. `name` is what messages call the database."""

    def __init__(self, location: str | Path, *, name: str) -> None:
        """A file, or a `sqlite:///` or `postgresql://` URL; opens no connection yet."""
        self._database = open_database(location)
        self._name = name

    @property
    def label(self) -> str:
        """The database's place, for messages."""
        return self._database.label

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view, which writers do not disturb."""
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
        """Let go of connections that are kept open; the database may be used again."""
        self._database.close()

    def stamp(self) -> Stamp | None:
        """What differs after every commit by anybody; None where that is not said."""
        return self._database.stamp()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # the code broke a rule of the tables: a bug, not a state of the disk
        except DataError as failure:  # PostgreSQL keeps no NUL, for one; the database is well
            raise InvalidRequest(
                f"{self._name} cannot hold a value that was given: {failure.orig}"
            ) from failure
        except DBAPIError as failure:
            raise CatalogUnavailable(
                f"{self._name} {self.label} cannot be used: {failure.orig}"
            ) from failure
        except PoolTimeout as failure:
            raise CatalogUnavailable(f"{self._name} {self.label} is overloaded") from failure
