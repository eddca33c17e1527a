"""The catalog: transactions on the database of adapters, migrated when it is opened."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .errors import CatalogUnavailable
from .transactions import Transactions

REVISION = "0004"  # the newest migration; a test holds this to the migrations folder
_MIGRATIONS = Path(__file__).parent / "migrations"


class Catalog(Transactions):
    """Transactions on one catalog."""

    def __init__(self, location: str | Path) -> None:
        """Open a file, or a `sqlite:///` or `postgresql://` URL; migrates it where needed."""
        super().__init__(location, name="the catalog")
        with self._errors():
            self._prepare()

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
