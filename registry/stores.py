"""A small database of a server's own, beside the catalog."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from .transactions import Transactions


class Store(Transactions):
    """Its tables are made where they are missing."""

    def __init__(self, location: str | Path, tables: sa.MetaData, *, name: str) -> None:
        """Open a file, or a `sqlite:///` or `postgresql://` URL. Raises `CatalogUnavailable`."""
        if isinstance(location, Path):
            location.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(location, name=name)
        with self._errors():
            self._database.prepare()
            with self.write() as connection:
                tables.create_all(connection)
