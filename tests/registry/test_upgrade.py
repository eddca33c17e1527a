"""Catalogs of the releases before this one, with data in them, go on working."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from registry import Registry
from registry.canary.rules import Rules
from registry.errors import VersionNotFound
from registry.keys import Keys
from registry.pages import MetricCondition, Search
from registry.referrers import list_referrers

DUMPS = Path(__file__).parent / "data"


def restore(dump: str, folder: Path) -> Path:
    """A registry's folder with the catalog that a release wrote."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as connection:
        connection.executescript((DUMPS / dump).read_text())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Versions of `sql` and `orders`, moved aliases and a lease, as the first release wrote."""
    return restore("catalog_0001.sql", tmp_path / "registry")


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


def test_what_the_second_release_wrote_is_there(tmp_path: Path) -> None:
    registry = Registry.open(restore("service_0002.sql", tmp_path / "registry"))
    assert [version.number for version in registry.versions("sql")] == [1, 2, 3]
    with pytest.raises(VersionNotFound):
        registry.resolve("orders@1")  # withdrawn
    history = registry.alias_history("sql", "prod")
    assert [(event.kind, event.to_number, event.weight) for event in history] == [
        ("set", 1, None),
        ("set", 3, None),
        ("rollback", 1, None),
    ]
    assert registry.protected_aliases("sql") == {"prod"}
    assert len(registry.events()) == registry.newest_event() == 11
    search = Search(tags=("task=sql",), metrics=(MetricCondition.parse("exact_match>=0.9"),))
    assert [each.name for each in registry.search(search).items] == ["sql"]
    assert len(list_referrers(registry, registry.resolve("sql@2").digest)) == 1
    assert [key.name for key in Keys(registry.catalog).list()] == ["ci"]


def test_an_alias_with_a_history_takes_a_canary(tmp_path: Path) -> None:
    registry = Registry.open(restore("service_0002.sql", tmp_path / "registry"))
    registry.canaries.start("sql", "prod", "2", Rules(steps=(50,)), by="ann")
    registry.canaries.advance("sql", "prod", by="ann")
    assert registry.resolve("sql").number == 2
    assert registry.rollback_alias("sql", "prod").number == 1


def test_an_upgrade_is_undone_by_the_copy_made_before_it(tmp_path: Path) -> None:
    """As docs/operations.md has it: sqlite3's own backup first, then the new release."""
    folder = restore("service_0002.sql", tmp_path / "registry")
    kept = tmp_path / "before.sqlite"
    with (
        closing(sqlite3.connect(folder / "catalog.sqlite")) as source,
        closing(sqlite3.connect(kept)) as target,
    ):
        source.backup(target)
    with closing(Registry.open(folder)) as upgraded:
        assert upgraded.resolve("sql").number == 1
        upgraded.set_alias("sql", "prod", "sql@3", by="ann")
    assert revision(folder / "catalog.sqlite") != "0002"
    shutil.copyfile(kept, folder / "catalog.sqlite")
    assert revision(folder / "catalog.sqlite") == "0002"
    with closing(Registry.open(folder)) as again:
        assert again.resolve("sql").number == 1  # the move made since is undone with the upgrade


def revision(catalog: Path) -> str:
    with closing(sqlite3.connect(catalog)) as connection:
        (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(found)
