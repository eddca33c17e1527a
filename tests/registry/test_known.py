"""What was found is looked up once, and again after every commit, whoever makes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from registry import BaseRecord, Reference, Registry
from registry.canary.record import Route
from registry.commit_watch import CommitWatch, Stamp
from registry.errors import AdapterNotFound
from registry.known import Known
from tests.registry.making import make_adapter

SQL = Reference("sql")
MOVE = """
import sys
from registry import Registry
Registry.open(sys.argv[1]).set_alias(*sys.argv[2:])
"""


class Looking:
    """Finds a route, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.times = 0
        self.route = Route(None)  # type: ignore[arg-type]

    def __call__(self) -> Route:
        self.times += 1
        return self.route


@pytest.fixture
def filled(tmp_path: Path, base: BaseRecord) -> Registry:
    """Two versions of "sql", of which the first is `prod`."""
    registry = Registry.open(tmp_path / "registry")
    for number in (1, 2):
        registry.push(make_adapter(tmp_path / f"sql-{number}", seed=number), "sql", base=base)
    registry.set_alias("sql", "prod", "sql@1")
    return registry


def test_without_a_commit_nothing_is_looked_up_twice() -> None:
    stamp: Stamp | None = (1,)
    routes, look = Known[Reference, Route](lambda: stamp), Looking()
    for _ in range(5):
        assert routes.find(SQL, look) is look.route
    routes.find(Reference("sql", alias="canary"), look)
    assert look.times == 2
    stamp = (2,)
    routes.find(SQL, look)
    routes.find(SQL, look)
    assert look.times == 3


def test_where_commits_cannot_be_noticed_everything_is() -> None:
    routes, look = Known[Reference, Route](lambda: None), Looking()
    for _ in range(3):
        routes.find(SQL, look)
    assert look.times == 3


def test_an_answer_that_a_commit_overtook_is_not_remembered() -> None:
    stamps = [(1,), (2,), (2,), (1,)]
    slow, look = Looking(), Looking()
    routes = Known[Reference, Route](lambda: stamps.pop(0))

    def overtaken() -> Route:
        routes.find(SQL, look)  # by somebody else, after a commit
        return slow()

    routes.find(SQL, overtaken)
    assert routes.find(SQL, look) is look.route
    assert (slow.times, look.times) == (1, 1)


def test_a_failure_is_looked_up_again(filled: Registry) -> None:
    with pytest.raises(AdapterNotFound):
        filled.route("chat")
    with pytest.raises(AdapterNotFound):
        filled.route("chat")
    assert filled.route("sql").stable.number == 1


def test_every_move_is_seen_at_once_whoever_makes_it(filled: Registry) -> None:
    other = Registry.open(filled.folder)
    for move in range(40):
        mover = (filled, other)[move % 2]
        mover.set_alias("sql", "prod", f"sql@{1 + move % 2}")
        assert filled.route("sql").stable.number == 1 + move % 2
        assert other.route("sql").stable.number == 1 + move % 2
    there = ("sql", "prod", "sql@1")
    subprocess.run([sys.executable, "-c", MOVE, str(filled.folder), *there], check=True)
    assert filled.route("sql").stable.number == 1
    filled.close()
    other.set_alias("sql", "prod", "sql@2")
    assert filled.route("sql").stable.number == 2


def test_an_adapters_names_are_read_again_after_a_commit_only(
    filled: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look = filled._take_snapshot
    monkeypatch.setattr(filled, "_take_snapshot", lambda name: looks.append(name) or look(name))
    for number in (1, 2):
        filled.set_alias("sql", "prod", f"sql@{number}")
        for _ in range(5):
            assert filled.snapshot("sql").aliases["prod"].number == number
    assert looks == ["sql", "sql"]


def test_another_file_in_its_place_is_noticed(filled: Registry, tmp_path: Path) -> None:
    filled.close()
    catalog = filled.folder / "catalog.sqlite"
    kept = tmp_path / "kept.sqlite"
    shutil.copy(catalog, kept)
    filled.set_alias("sql", "prod", "sql@2")
    filled.close()
    assert filled.route("sql").stable.number == 2
    for file in filled.folder.glob("catalog.sqlite-*"):
        file.unlink()
    kept.replace(catalog)
    assert filled.route("sql").stable.number == 1


def test_a_file_that_is_not_there_has_no_stamp_and_is_not_made(tmp_path: Path) -> None:
    watch = CommitWatch(tmp_path / "none.sqlite", seconds=1)
    assert watch.stamp() is None
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_has_a_connection_of_its_own(
    filled: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = CommitWatch(filled.folder / "catalog.sqlite", seconds=1)
    before = watch.stamp()
    parents = watch._connection
    monkeypatch.setattr("registry.commit_watch.os.getpid", lambda: -1)
    assert watch.stamp() not in (None, before)
    assert parents is not None
    assert parents is not watch._connection
    assert parents.execute("SELECT 1").fetchone() == (1,)
    parents.close()
    watch.close()
