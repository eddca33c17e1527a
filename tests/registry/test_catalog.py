from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import registry
from registry import catalog, databases, tables
from registry.catalog import Catalog
from registry.databases import open_database
from registry.errors import CatalogUnavailable


def test_migrations_lead_to_the_tables_as_declared(tmp_path: Path) -> None:
    opened = Catalog(tmp_path / "catalog.sqlite")
    with opened.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_they_do_in_postgres_too(postgres_database: str) -> None:
    opened = Catalog(postgres_database)
    with opened.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    opened.close()
    again = Catalog(postgres_database)
    with again.read() as connection:
        assert connection.execute(sa.select(tables.version)).all() == []
    again.close()


def test_a_database_that_is_none_is_said_at_once() -> None:
    with pytest.raises(CatalogUnavailable, match="no database for a catalog"):
        Catalog("mysql://somewhere/else")
    assert "secret" not in open_database("postgresql://ann:secret@somewhere/hats").label


def test_the_newest_revision_is_the_one_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(registry.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [catalog.REVISION]


def test_a_catalog_from_the_future_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    Catalog(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(CatalogUnavailable, match="newer Hatstand"):
        Catalog(path)


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    opened = Catalog(tmp_path / "catalog.sqlite")

    def insert_and_fail() -> None:
        with opened.write() as connection:
            values = {"name": "sql", "created_at": sa.func.now()}
            connection.execute(sa.insert(tables.adapter).values(values))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        insert_and_fail()
    with opened.read() as connection:
        assert connection.execute(sa.select(tables.adapter)).all() == []


def test_a_reader_sees_one_moment(tmp_path: Path) -> None:
    opened = Catalog(tmp_path / "catalog.sqlite")
    count = sa.select(sa.func.count()).select_from(tables.adapter)
    insert = sa.insert(tables.adapter).values(name="sql", created_at=sa.func.now())
    with opened.read() as reader:
        assert reader.execute(count).scalar() == 0
        with opened.write() as writer:
            writer.execute(insert)
        assert reader.execute(count).scalar() == 0
    with opened.read() as reader:
        assert reader.execute(count).scalar() == 1


def test_a_catalog_that_stays_locked_is_an_error_not_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.05)
    opened = Catalog(tmp_path / "catalog.sqlite")
    with (
        opened.write(),
        pytest.raises(CatalogUnavailable, match=re.escape("locked")),
        opened.write(),
    ):
        pass
