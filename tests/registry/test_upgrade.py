"""A catalog of the release before this one, with data in it, goes on working."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from registry import Registry

DUMPS = Path(__file__).parent / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Versions of `sql` and `orders`, moved aliases and a lease, as the last release wrote them."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as connection:
        connection.executescript((DUMPS / "catalog_0001.sql").read_text())
    return folder


def test_everything_is_still_there(folder: Path) -> None:
    registry = Registry.open(folder)
    assert [version.number for version in registry.versions("sql")] == [1, 2, 3]
    assert registry.resolve("sql").number == 1
    assert registry.resolve("sql@canary").number == 2
    assert [event.to_number for event in registry.alias_history("sql", "prod")] == [1, 3, 1]
    assert [adapter.name for adapter in registry.adapters()] == ["orders", "sql"]
    assert [lease.holder for lease in registry.leases()] == ["server-1"]
    for version in registry.versions("sql"):
        assert version.manifest.digest == version.digest


def test_old_versions_take_part_in_what_is_new(folder: Path) -> None:
    registry = Registry.open(folder)
    assert registry.newest_event() == 0
    registry.set_alias("sql", "prod", "sql@3", by="ann")
    registry.withdraw("sql@1", by="ann", why="bad data")
    assert [version.number for version in registry.versions("sql")] == [2, 3]
    kinds = [event.kind for event in registry.events()]
    assert kinds == ["alias.set", "version.withdrawn"]
