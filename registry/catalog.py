"""The catalog: transactions on the database of adapters, migrated when it is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .databases import open_database, write_options
from .errors import CatalogUnavailable

REVISION = "0004"  # the newest migration; a test holds this to the migrations folder
_MIGRATIONS = Path(__file__).parent / "migrations"


class Catalog:
    """Transactions on one catalog, from any thread or process."""

    def __init__(self, location: str | Path) -> None:
        """Open a file, or a `sqlite:///` or `postgresql://` URL; migrates it where needed."""
        self._database = open_database(location)
        with self._errors():
            self._prepare()

    @property
    def label(self) -> str:
        """The catalog's place, for messages."""
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
        """Let go of connections that are kept open; the catalog may be used again."""
        self._database.engine.dispose()

    def _prepare(self) -> None:
        """Set up and migrate, once, whichever process comes first."""
        with self.read() as connection:
            if _current_revision(connection) == REVISION:
                return
        self._database.prepare()
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
                f"the catalog {self.label} cannot be used: {failure.orig}"
            ) from failure
        except PoolTimeout as failure:
            raise CatalogUnavailable(f"the catalog {self.label} is overloaded") from failure


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
