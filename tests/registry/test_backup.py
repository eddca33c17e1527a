"""Backups made while others push, withdraw and collect; restored whole, onto anything."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from registry import BaseRecord, Registry
from registry.backup import back_up, restore
from registry.collection import collect
from registry.errors import Corrupted, DestinationExists
from registry.keys import Keys
from registry.tables import metadata
from registry.versions import Version
from tests.registry.backends import Backend
from tests.registry.making import make_adapter
from tests.registry.test_killing import start

EVERY_BACKEND = True
Rows = dict[str, list[tuple[object, ...]]]


def rows(registry: Registry) -> Rows:
    """Everything that the catalog knows."""
    with registry.catalog.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def assert_whole(registry: Registry) -> None:
    """Every version is sound, and every alias points at one."""
    for adapter in registry.adapters():
        assert all(check.is_sound for check in registry.verify(adapter.name))
        for alias in registry.aliases(adapter.name):
            registry.resolve(f"{adapter.name}@{alias}")


def test_a_backup_is_the_registry_and_so_is_what_is_restored(
    registry: Registry, backend: Backend, base: BaseRecord, tmp_path: Path
) -> None:
    folders = [make_adapter(tmp_path / f"{n}", seed=n, lock=base) for n in range(3)]
    for number, folder in enumerate(folders):
        registry.push(folder, "sql", alias="prod", tags=[f"n={number}"])
    registry.withdraw("sql@1")
    Keys(registry.catalog).create("ci", ["read"])
    collect(registry, grace=0)
    made = back_up(registry, tmp_path / "backup")
    with closing(Registry.open(tmp_path / "backup")) as kept:
        assert rows(kept) == rows(registry)
        assert_whole(kept)
    assert made.num_copied == made.num_blobs == len(list(registry.blobs.list()))
    again = Registry.open(tmp_path / "again", blobs=backend.blobs and backend.blobs + "-again")
    restore(tmp_path / "backup", again)
    assert rows(again) == rows(registry)
    assert_whole(again)
    # It goes on where the old one was: numbers are not given twice.
    assert again.push(make_adapter(tmp_path / "new", seed=9, lock=base), "sql").number == 4
    assert again.newest_event() == registry.newest_event() + 1


def test_a_restored_database_goes_on_counting(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    """Into the kind of database that is tested, out of a folder."""
    with closing(Registry.open(tmp_path / "old")) as old:
        old.push(make_adapter(tmp_path / "a", lock=base), "sql", alias="prod")
        back_up(old, tmp_path / "backup")
        restore(tmp_path / "backup", registry)
        assert rows(registry) == rows(old)
    assert registry.push(make_adapter(tmp_path / "b", seed=1, lock=base), "sql").number == 2
    registry.set_alias("sql", "prod", "sql@2")
    assert_whole(registry)
    with pytest.raises(DestinationExists, match="not empty"):
        restore(tmp_path / "backup", registry)


def test_a_backup_taken_under_load_restores_whole(
    registry: Registry, backend: Backend, base: BaseRecord, tmp_path: Path
) -> None:
    """Two processes push, move aliases, withdraw and collect without a grace period meanwhile."""
    adapters = [make_adapter(tmp_path / f"{n}", seed=n, lock=base) for n in range(4)]
    registry.push(adapters[0], "sql", alias="prod")
    workers = [start(backend, seed, adapters) for seed in (1, 2)]
    try:
        for number in range(3):
            wait_for_work(registry)
            back_up(registry, tmp_path / "backup")
            shutil.copytree(tmp_path / "backup", tmp_path / f"backup-{number}")
        assert all(worker.is_alive() for worker in workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    for number in range(3):
        again = Registry.open(tmp_path / f"again-{number}")
        restore(tmp_path / f"backup-{number}", again)
        assert_whole(again)
        assert again.versions("sql")


def wait_for_work(registry: Registry) -> None:
    """Until somebody has changed something."""
    before = registry.newest_event()
    while registry.newest_event() == before:
        time.sleep(0.005)


def test_what_is_kept_already_is_not_copied_again(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    registry.push(make_adapter(tmp_path / "a", lock=base), "sql")
    first = back_up(registry, tmp_path / "backup")
    newer = registry.push(make_adapter(tmp_path / "b", seed=1, lock=base), "sql")
    second = back_up(registry, tmp_path / "backup")
    assert second.num_versions == 2
    assert second.num_copied == second.num_blobs - first.num_blobs
    with closing(Registry.open(tmp_path / "backup")) as kept:
        assert kept.resolve("sql@2").digest == newer.digest


def test_nothing_but_an_earlier_backup_is_written_over(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    registry.push(make_adapter(tmp_path / "a", lock=base), "sql")
    back_up(registry, tmp_path / "served")
    for name in ("served", "other"):
        with closing(Registry.open(tmp_path / name)) as another:
            theirs = another.push(make_adapter(tmp_path / name / "b", seed=1, lock=base), "pirate")
        with pytest.raises(DestinationExists, match="no earlier backup"):
            back_up(registry, tmp_path / name)
        with closing(Registry.open(tmp_path / name)) as another:
            assert another.resolve("pirate@1").digest == theirs.digest
    (tmp_path / "link").symlink_to(registry.folder)
    with pytest.raises(DestinationExists, match="the registry itself"):
        back_up(registry, tmp_path / "link")


def test_a_damaged_blob_is_not_copied(
    registry: Registry, backend: Backend, base: BaseRecord, tmp_path: Path
) -> None:
    version = registry.push(make_adapter(tmp_path / "a", lock=base), "sql")
    damaged = weights_of(version)
    backend.overwrite(registry, damaged, b"x" * 10)
    with pytest.raises(Corrupted, match=damaged):
        back_up(registry, tmp_path / "backup")


def weights_of(version: Version) -> str:
    return max(version.manifest.layers, key=lambda layer: layer.size).digest
