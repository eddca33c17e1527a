from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry import BaseRecord, Registry
from registry.api.app import create_app
from registry.api.settings import RegistryApiSettings
from registry.canary.rules import Rules
from registry.errors import AdapterNotFound, AliasNotFound, Unavailable
from registry.keys import Keys
from registry.remote import following, mirror
from registry.remote.connection import Connection
from registry.remote.mirror import Mirror
from tests.registry.api.conftest import serving
from tests.registry.making import make_adapter
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, eventually


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are milliseconds here."""
    monkeypatch.setattr(following, "_POLL", 0.02)
    monkeypatch.setattr(following, "_STREAM_AGAIN", 0.05)
    monkeypatch.setattr(mirror, "_STALE_AFTER", 0.02)
    monkeypatch.setattr(mirror, "_TRY_AGAIN", 0.02)
    monkeypatch.setattr("registry.remote.connection._FIRST_PAUSE", 0.001)


def following_mirror(url: str, folder: Path) -> Mirror:
    opened = Mirror(Connection(url), folder)
    opened.follower.start()
    return opened


@pytest.fixture
def mirrored(url: str, tmp_path: Path) -> Iterator[Mirror]:
    opened = following_mirror(url, tmp_path / "cache")
    assert opened.follower.wait(PATIENCE)
    yield opened
    opened.close()


@pytest.mark.usefixtures("three")
def test_moves_are_heard(mirrored: Mirror, registry: Registry) -> None:
    assert mirrored.resolve("sql").number == 3
    registry.set_alias("sql", "prod", "sql@1")
    eventually(lambda: mirrored.resolve("sql").number == 1)
    assert mirrored.resolve("sql@prod").number == 1
    assert mirrored.resolve("sql@2").number == 2
    with pytest.raises(AliasNotFound):
        mirrored.resolve("sql@canary")
    with pytest.raises(AdapterNotFound):
        mirrored.resolve("orders")
    assert [each.name for each in mirrored.adapters()] == ["sql"]


@pytest.mark.usefixtures("three")
def test_a_canary_is_heard_of_at_every_step(mirrored: Mirror, registry: Registry) -> None:
    registry.set_alias("sql", "prod", "sql@1")
    eventually(lambda: mirrored.resolve("sql").number == 1)
    registry.canaries.start("sql", "prod", "2", Rules(steps=(10, 50)))

    def weight() -> int:
        split = mirrored.route("sql").split
        return 0 if split is None else split.weight

    eventually(lambda: weight() == 10)
    assert mirrored.route("sql@prod") == registry.route("sql@prod")
    assert mirrored.route("sql@2").split is None
    registry.canaries.advance("sql", "prod")
    eventually(lambda: weight() == 50)
    registry.canaries.advance("sql", "prod")
    eventually(lambda: mirrored.resolve("sql").number == 2)
    assert mirrored.route("sql").split is None


@pytest.mark.usefixtures("three")
def test_nothing_is_asked_twice_while_events_are_heard(
    mirrored: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [mirrored.resolve(text) for text in ("sql", "sql@2")]
    mirrored.adapters()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(mirrored.connection, "call", refuse)
    assert [mirrored.resolve(text) for text in ("sql", "sql@2")] == first
    mirrored.adapters()


def test_a_new_adapter_is_heard_of(mirrored: Mirror, registry: Registry, adapter: Path) -> None:
    assert mirrored.adapters() == []
    registry.push(adapter, "sql")
    eventually(lambda: [each.name for each in mirrored.adapters()] == ["sql"])


def test_a_registry_that_goes_down_and_comes_back(
    registry: Registry, settings: RegistryApiSettings, base: BaseRecord, tmp_path: Path
) -> None:
    version = registry.push(make_adapter(tmp_path / "a", lock=base), "sql", alias="prod")
    port = free_port()  # which nobody else is given while the registry is away
    with serving(create_app(registry, settings), port) as url:
        mirrored = following_mirror(url, tmp_path / "cache")
        assert mirrored.follower.wait(PATIENCE)
        assert mirrored.resolve("sql@prod") == version
        assert mirrored.resolve("sql@1") == version
        files = mirrored.files(version)
    eventually(lambda: not mirrored.follower.is_connected)
    time.sleep(0.03)
    assert mirrored.resolve("sql") == mirrored.resolve("sql@1") == version
    assert mirrored.files(version) == files
    assert not mirrored.is_connected
    assert [each.name for each in mirrored.adapters()] == ["sql"]
    with pytest.raises(Unavailable):
        mirrored.resolve("orders")

    # A server that starts meanwhile knows what this one knew.
    late = following_mirror(url, tmp_path / "cache")
    assert late.resolve("sql@prod") == version
    assert late.resolve("sql@1") == version
    assert late.resolve(f"sql@{version.digest[:19]}") == version
    assert late.files(version) == files
    late.close()

    second = registry.push(make_adapter(tmp_path / "b", seed=1, lock=base), "sql", alias="prod")
    with serving(create_app(registry, settings), port):
        eventually(lambda: mirrored.resolve("sql") == second)
        assert mirrored.is_connected
        mirrored.close()


def test_nobody_waits_for_a_registry_that_is_missed_already(
    registry: Registry,
    settings: RegistryApiSettings,
    base: BaseRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its follower alone goes on asking; each attempt may take seconds if a cable was pulled."""
    version = registry.push(make_adapter(tmp_path / "a", lock=base), "sql")
    with serving(create_app(registry, settings)) as url:
        mirrored = following_mirror(url, tmp_path / "cache")
        assert mirrored.follower.wait(PATIENCE)
        assert mirrored.resolve("sql") == version
    eventually(lambda: not mirrored.is_connected)  # though nobody has asked
    call, asked = mirrored.connection.call, set[str]()

    def watched(*arguments: Any, **more: Any) -> Any:
        asked.add(threading.current_thread().name)
        return call(*arguments, **more)

    monkeypatch.setattr(mirrored.connection, "call", watched)
    eventually(lambda: bool(asked))
    assert mirrored.resolve("sql") == version
    assert [each.name for each in mirrored.adapters()] == ["sql"]
    with pytest.raises(Unavailable):
        mirrored.resolve("orders")
    assert asked == {"registry-events"}
    mirrored.close()


def test_where_no_stream_comes_through_it_polls(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    registry.push(make_adapter(tmp_path / "a", lock=base), "sql")
    settings = RegistryApiSettings(is_open=True, max_followers=0)
    with serving(create_app(registry, settings)) as url:
        mirrored = following_mirror(url, tmp_path / "cache")
        assert mirrored.follower.wait(PATIENCE)
        assert mirrored.resolve("sql").number == 1
        registry.push(make_adapter(tmp_path / "b", seed=1, lock=base), "sql")
        eventually(lambda: mirrored.resolve("sql").number == 2)
        mirrored.close()


def test_a_key_that_ends_does_not_end_serving(
    registry: Registry, settings: RegistryApiSettings, adapter: Path, tmp_path: Path
) -> None:
    version = registry.push(adapter, "sql")
    keys = Keys(registry.catalog)
    key, token = keys.create("server", ["read"])
    with serving(create_app(registry, settings)) as url:
        mirrored = Mirror(Connection(url, token), tmp_path / "cache")
        assert mirrored.resolve("sql") == version
        keys.revoke(key.id)
        time.sleep(0.03)
        assert mirrored.resolve("sql") == version
        assert not mirrored.is_connected
        mirrored.close()
