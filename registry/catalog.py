"""The catalog's database: SQLite in WAL mode, migrated when it is opened."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from .errors import CatalogUnavailable

REVISION = "0001"  # the newest migration; a test holds this to the migrations folder
_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_SECONDS = 30.0  # how long a writer waits for another


class Catalog:
    """Transactions on one catalog file, from any thread or process.

    Each transaction has a connection of its own: nothing is shared across threads or forks, and
    nothing stays open between them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = _create_engine(path)
        with self._errors():
            self._prepare()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view, which writers do not disturb."""
        with self._errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One writer at a time; committed at the end, rolled back on any exception."""
        with self._errors(), self._engine.connect() as connection:
            # Taking the lock now spares a reader-turned-writer the busy error.
            connection.execution_options(hatstand_write=True)
            with connection.begin():
                yield connection

    def _prepare(self) -> None:
        """Switch to WAL and migrate, once, whichever process comes first."""
        with self.read() as connection:
            if _current_revision(connection) == REVISION:
                return
        _enter_wal(self._path)
        with self.write() as connection:
            current = _current_revision(connection)  # another process may have been faster
            if current != REVISION:
                _migrate(connection, current)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # the code broke a rule of the tables: a bug, not a state of the disk
        except DBAPIError as failure:
            raise CatalogUnavailable(
                f"the catalog {self._path} cannot be used: {failure.orig}"
            ) from failure


def _create_engine(path: Path) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite+pysqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a committed version survives a power cut

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        is_write = connection.get_execution_options().get("hatstand_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine


def _enter_wal(path: Path) -> None:
    """WAL lets readers and a writer go on beside each other. The mode stays with the file."""
    import sqlite3

    deadline = time.monotonic() + _BUSY_SECONDS
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as failure:
                # Changing the mode does not wait for other connections by itself.
                if "locked" not in str(failure) or time.monotonic() > deadline:
                    raise CatalogUnavailable(
                        f"the catalog {path} cannot be used: {failure}"
                    ) from failure
                time.sleep(0.01)


def _current_revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(
        sa.text("SELECT version_num FROM alembic_version")
    ).scalar()
    return revision


def _migrate(connection: Connection, current: str | None) -> None:
    """Run the missing migrations inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise CatalogUnavailable(
            f"this catalog was made by a newer Hatstand (revision {current}): upgrade with "
            "`pip install --upgrade hatstand`"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
