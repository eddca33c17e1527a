"""The databases a catalog may live in: SQLite in a file, or PostgreSQL by URL."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool, QueuePool

from .commit_watch import CommitWatch, Stamp
from .errors import CatalogUnavailable

BUSY_SECONDS = 30.0  # how long a writer waits for another
_WRITERS = 7261_4021  # the advisory lock that PostgreSQL's writers take, one at a time


class Database(Protocol):
    """What differs between databases. `label` names one in messages, without its password."""

    engine: Engine
    label: str

    def begin_write(self, connection: Connection) -> None:
        """Become the only writer until the transaction ends; called first thing in it."""
        ...

    def prepare(self) -> None:
        """Set up what migrations cannot."""
        ...

    def stamp(self) -> Stamp | None:
        """What differs after every commit by anybody; None where it costs as much as a look."""
        ...

    def close(self) -> None:
        """Let go of connections that are kept open; others can be opened."""
        ...


class SqliteDatabase:
    """One file, in WAL mode. Each transaction has a connection of its own.

    None is shared across threads or forks; what stays open between transactions only watches.
    """

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        self._path = path
        self.engine = sa.create_engine(
            sa.URL.create("sqlite+pysqlite", database=str(path)),
            poolclass=NullPool,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        )
        sa.event.listen(self.engine, "connect", _configure)
        sa.event.listen(self.engine, "begin", _begin)
        self._watch = CommitWatch(path, seconds=BUSY_SECONDS)

    def begin_write(self, connection: Connection) -> None:
        """Nothing: `_begin` took the lock."""

    def prepare(self) -> None:
        """WAL lets readers and a writer go on beside each other. The mode stays with the file."""
        deadline = time.monotonic() + BUSY_SECONDS
        with contextlib.closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as connection:
            while True:
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                    return
                except sqlite3.OperationalError as failure:
                    # Changing the mode does not wait for other connections by itself.
                    if "locked" not in str(failure) or time.monotonic() > deadline:
                        raise CatalogUnavailable(
                            f"the catalog {self._path} cannot be used: {failure}"
                        ) from failure
                    time.sleep(0.01)

    def stamp(self) -> Stamp | None:
        """Of the file."""
        return self._watch.stamp()

    def close(self) -> None:
        """Stop watching until the next stamp."""
        self._watch.close()


class PostgresDatabase:
    """A PostgreSQL database, reached through a small pool of connections."""

    def __init__(self, url: sa.URL) -> None:
        self.label = url.render_as_string(hide_password=True)
        try:
            self.engine = sa.create_engine(
                url.set(drivername="postgresql+psycopg"),
                poolclass=QueuePool,
                pool_size=8,
                max_overflow=24,
                pool_pre_ping=True,
                # A reader sees one moment, as in SQLite; `begin_write` differs.
                isolation_level="REPEATABLE READ",
            )
        except ModuleNotFoundError:
            raise CatalogUnavailable(
                "PostgreSQL needs psycopg: pip install 'hatstand[postgres]'", param="database"
            ) from None
        _part_from_parents(self.engine)

    def begin_write(self, connection: Connection) -> None:
        """Wait for the other writers.

        One at a time, as in SQLite: then events are committed in the order of their numbers, and
        what a collection finds unused stays unused until it is gone.
        """
        milliseconds = int(BUSY_SECONDS * 1000)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")

    def prepare(self) -> None:
        """Nothing to set up."""

    def stamp(self) -> Stamp | None:
        """None: to ask is a round trip, as a look is."""

    def close(self) -> None:
        """Empty the pool."""
        self.engine.dispose()


def open_database(location: str | Path) -> Database:
    """The database at a path, a `sqlite:///` or a `postgresql://` URL; opens no connection yet."""
    if isinstance(location, Path) or "://" not in location:
        return SqliteDatabase(Path(location))
    try:
        url = sa.make_url(location)
    except sa.exc.ArgumentError:
        raise CatalogUnavailable("the database's URL cannot be read", param="database") from None
    kind = url.get_backend_name()
    if kind == "sqlite" and url.database:
        return SqliteDatabase(Path(url.database).absolute())
    if kind in ("postgresql", "postgres"):
        return PostgresDatabase(url)
    raise CatalogUnavailable(
        f"{kind}:// is no database for a catalog: use sqlite:/// or postgresql://", param="database"
    )


def write_options(connection: Connection) -> Connection:
    """Mark a connection's next transaction as one that writes."""
    options: dict[str, Any] = {"hatstand_write": True}
    if connection.dialect.name == "postgresql":
        # After waiting for the lock, what the others committed must be seen.
        options["isolation_level"] = "READ COMMITTED"
    return connection.execution_options(**options)


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # a committed version survives a power cut


def _begin(connection: Connection) -> None:
    # Taking the lock now spares a reader-turned-writer the busy error.
    is_write = connection.get_execution_options().get("hatstand_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _part_from_parents(engine: Engine) -> None:
    """Keep a forked child off its parent's sockets (SQLAlchemy's own recipe)."""

    @sa.event.listens_for(engine, "connect")
    def _remember(_: object, record: Any) -> None:
        record.info["pid"] = os.getpid()

    @sa.event.listens_for(engine, "checkout")
    def _compare(_: object, record: Any, proxy: Any) -> None:
        if record.info["pid"] != os.getpid():
            record.dbapi_connection = proxy.dbapi_connection = None
            raise sa.exc.DisconnectionError("this connection belongs to the parent process")
