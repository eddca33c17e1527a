from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from registry import BaseRecord, Hat, Registry
from registry.collection import collect
from registry.errors import (
    AdapterNotFound,
    AliasConflict,
    AliasNotFound,
    CatalogUnavailable,
    Corrupted,
    FileRefused,
    Forbidden,
    InvalidReference,
    KeyNeeded,
    NotFound,
    RegistryError,
    RegistryUnreachable,
    VersionNotFound,
)
from registry.keys import Keys
from registry.remote import blobs as remote_blobs
from registry.remote.connection import Connection
from registry.remote.registry import RemoteRegistry
from tests.registry.backends import Backend
from tests.registry.making import make_adapter

EVERY_BACKEND = True


class Cutting(httpx.BaseTransport):
    """Counts requests, and breaks those that `cut` picks, before or after they arrive."""

    def __init__(self, cut: Callable[[httpx.Request, int], str | None]) -> None:
        self._inner = httpx.HTTPTransport()
        self._cut = cut
        self.seen: list[tuple[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append((request.method, request.url.path))
        how = self._cut(request, len(self.seen))
        if how == "before":
            raise httpx.ConnectError("cut")
        response = self._inner.handle_request(request)
        if how == "after":
            response.close()
            raise httpx.ReadError("cut")
        return response

    def close(self) -> None:
        self._inner.close()

    def count(self, method: str, path: str) -> int:
        return sum(each[0] == method and each[1].startswith(path) for each in self.seen)


def client(url: str, folder: Path, transport: httpx.BaseTransport | None = None) -> RemoteRegistry:
    return RemoteRegistry(Connection(url, transport=transport), folder)


def test_a_push_from_elsewhere_is_the_push_from_here(
    remote: RemoteRegistry, registry: Registry, adapter: Path, tmp_path: Path
) -> None:
    Hat(system_prompt="Answer in SQL.", stop=(";",)).write(adapter)
    version = remote.push(adapter, "sql", alias="prod", why="first", tags=("gold",))
    assert version.is_new
    assert registry.resolve("sql@prod") == version == remote.resolve("sql")
    assert Registry.open(tmp_path / "local").push(adapter, "sql").digest == version.digest
    assert not remote.push(adapter, "sql").is_new
    assert remote.hat(version) == registry.hat(version)
    assert remote.lock(version) == registry.lock(version)
    for name, path in remote.files(version).items():
        assert path.read_bytes() == registry.files(version)[name].read_bytes()
    assert remote.pull("sql@1", tmp_path / "out") == version
    assert remote.push(tmp_path / "out", "sql").digest == version.digest
    assert [check.is_sound for check in remote.verify()] == [True]
    assert [each.name for each in remote.adapters()] == ["sql"]


def test_aliases_from_elsewhere(remote: RemoteRegistry, three: list[str]) -> None:
    assert remote.set_alias("sql", "prod", "sql@1", expected="none").number == 1
    remote.set_alias("sql", "prod", "sql@2", expected=three[0])
    with pytest.raises(AliasConflict):
        remote.set_alias("sql", "prod", "sql@3", expected=three[0])
    remote.set_alias("sql", "prod", "sql@3", expected=2)
    assert remote.rollback_alias("sql", "prod", why="worse").number == 2
    assert [event.to_number for event in remote.alias_history("sql", "prod")] == [1, 2, 3, 2]
    assert remote.aliases("sql") == {"prod": remote.resolve("sql@2")}
    assert [version.digest for version in remote.versions("sql")] == three
    assert remote.resolve(f"sql@{three[0][:19]}").number == 1
    with pytest.raises(InvalidReference):
        remote.set_alias("sql", "prod", "orders@1")


@pytest.mark.usefixtures("three")
def test_refusals_arrive_as_the_errors_they_are(remote: RemoteRegistry, tmp_path: Path) -> None:
    with pytest.raises(AdapterNotFound, match="did you mean 'sql'"):
        remote.resolve("sgl")
    with pytest.raises(VersionNotFound):
        remote.resolve("sql@9")
    with pytest.raises(AliasNotFound):
        remote.resolve("sql@canary")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileRefused, match="is it a PEFT adapter"):
        remote.push(tmp_path / "empty", "sql")


@pytest.mark.parametrize(
    ("code", "error", "advice"),
    [
        ("not_found", NotFound, "ends in /registry"),
        ("key_needed", KeyNeeded, "HATSTAND_REGISTRY_KEY"),
    ],
)
def test_refusals_say_what_to_change_here(
    code: str, error: type[RegistryError], advice: str
) -> None:
    """A path that is not there, as at an inference server's root, and a key that is not given."""
    answer = {"error": {"message": "No.", "code": code, "param": None}}
    transport = httpx.MockTransport(lambda _: httpx.Response(error.status, json=answer))
    connection = Connection("http://registry", transport=transport)
    with pytest.raises(error, match=advice):
        connection.call("GET", "/adapters")
    connection.close()


def test_no_blob_is_uploaded_twice(url: str, adapter: Path, tmp_path: Path) -> None:
    watching = Cutting(lambda _request, _number: None)
    remote = client(url, tmp_path / "c", watching)
    remote.push(adapter, "sql")
    first = watching.count("POST", "/blobs/uploads")
    assert first == 4  # weights, config, lock, manifest
    (adapter / "README.md").write_text("the same weights, better explained")
    remote.push(adapter, "sql")
    assert watching.count("POST", "/blobs/uploads") == first + 2  # README and manifest
    remote.close()


def test_a_push_survives_cuts(
    url: str, registry: Registry, base: BaseRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third request is cut, in turns before and after the server has seen it."""
    monkeypatch.setattr(remote_blobs, "PIECE", 1000)
    monkeypatch.setattr("registry.remote.connection._FIRST_PAUSE", 0.001)
    folder = make_adapter(tmp_path / "a", lock=base)

    def cut(request: httpx.Request, number: int) -> str | None:
        if request.method == "POST" and request.url.path == "/blobs/uploads":
            return None  # the one request that nobody repeats
        return {0: "before", 3: "after"}.get(number % 6)

    remote = client(url, tmp_path / "c", Cutting(cut))
    version = remote.push(folder, "sql")
    assert registry.resolve("sql") == version
    assert [check.is_sound for check in registry.verify()] == [True]
    assert remote.pull("sql", tmp_path / "out").digest == version.digest
    remote.close()


def test_a_push_that_was_given_up_goes_on_later(
    url: str, base: BaseRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_blobs, "PIECE", 500)
    monkeypatch.setattr("registry.remote.connection._FIRST_PAUSE", 0.001)
    folder = make_adapter(tmp_path / "a", lock=base)
    pieces = {"left": 3}

    def cut(request: httpx.Request, _number: int) -> str | None:
        if request.method == "PATCH":
            pieces["left"] -= 1
        return "before" if pieces["left"] < 0 else None

    broken = client(url, tmp_path / "c", Cutting(cut))
    with pytest.raises(RegistryUnreachable):
        broken.push(folder, "sql")
    broken.close()
    watching = Cutting(lambda _request, _number: None)
    again = client(url, tmp_path / "c", watching)
    again.push(folder, "sql")
    total = sum(path.stat().st_size for path in again.files(again.resolve("sql")).values())
    # What had arrived was not sent again: fewer pieces than all the bytes make.
    assert watching.count("PATCH", "/blobs/uploads") < total / 500 + 5 - 2
    again.close()


def test_a_download_that_lies_is_refused(
    url: str, backend: Backend, registry: Registry, adapter: Path, tmp_path: Path
) -> None:
    version = registry.push(adapter, "sql")
    weights = version.manifest.files["adapter_model.safetensors"]
    backend.overwrite(registry, weights.digest, b"x" * weights.size)
    remote = client(url, tmp_path / "c")
    with pytest.raises(Corrupted):
        remote.files(version)
    with pytest.raises(Corrupted):
        remote.pull("sql", tmp_path / "out")
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()
    remote.close()


@pytest.mark.parametrize("damage", [b"", b"x"])
def test_a_copy_that_was_damaged_here_is_fetched_again(
    url: str, registry: Registry, adapter: Path, tmp_path: Path, damage: bytes
) -> None:
    version = registry.push(adapter, "sql")
    remote = client(url, tmp_path / "c")
    copy = remote.files(version)["adapter_model.safetensors"]
    sound = copy.read_bytes()
    copy.chmod(0o600)
    copy.write_bytes(damage * len(sound))  # emptied, or other bytes
    assert remote.files(version)["adapter_model.safetensors"].read_bytes() == sound
    remote.close()


def test_leases_and_collections_from_elsewhere(
    remote: RemoteRegistry, registry: Registry, three: list[str]
) -> None:
    remote.lease(three[2], "server-1", 600)
    assert [lease.holder for lease in registry.leases()] == ["server-1"]
    remote.withdraw("sql@3")
    assert remote.collect(grace=0, dry_run=True)["collected"] == []
    remote.release(three[2], "server-1")
    assert len(remote.collect(grace=0, dry_run=True)["collected"]) == 2
    assert len(collect(registry, grace=0).collected) == 2


def test_keys_are_sent_and_refused(url: str, registry: Registry, three: list[str]) -> None:
    _, token = Keys(registry.catalog).create("reader", ["read"])
    nobody = client(url, registry.folder / "c")
    with pytest.raises(KeyNeeded):
        nobody.resolve("sql")
    nobody.close()
    reader = RemoteRegistry(Connection(url, token), registry.folder / "c")
    assert reader.resolve("sql").digest == three[2]
    with pytest.raises(Forbidden):
        reader.set_alias("sql", "prod", "sql@1")
    reader.close()


@pytest.mark.parametrize("url", ["ftp://host", "https://user:secret@host", "https://"])
def test_what_is_no_url_of_a_registry(url: str) -> None:
    with pytest.raises(CatalogUnavailable) as refusal:
        Connection(url)
    assert "secret" not in refusal.value.message


def test_somebody_else_who_answers_is_no_registry(tmp_path: Path) -> None:
    page = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>hi"))
    remote = client("http://registry", tmp_path, page)
    with pytest.raises(RegistryUnreachable, match="answered 200, not by a registry"):
        remote.resolve("sql")


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.remote.connection._FIRST_PAUSE", 0.001)
    remote = client("http://127.0.0.1:9", tmp_path)
    with pytest.raises(RegistryUnreachable, match="does not answer"):
        remote.resolve("sql")
    remote.close()
