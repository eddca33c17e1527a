"""Broken files, a broken registry, a full disk, and an end under load."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from registry import Registry
from registry.bases import read_base
from registry.errors import CatalogUnavailable, StoreFull
from registry.opening import open_registry
from server.serve import serving
from server.settings import EngineOptions
from tests.server.test_registry_link import registry_server
from tests.support.tiny import TinyAdapter
from tests.support.waiting import eventually
from tests.torture.asking import Outcome
from tests.torture.faulty_proxy import FaultyProxy, Mode
from tests.torture.site import in_loop, make_settings, post, server_process, until_idle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]
PAGE = 4096
STRIDE = 1 if os.environ.get("HATSTAND_TORTURE") else 3  # of the catalog's pages


def code(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_damaged_blobs_are_told_and_healed(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, ["sound", "damaged"])
    registry = Registry.open(Path(settings.registry))
    version = registry.resolve("damaged")
    path = registry.files(version)["adapter_model.safetensors"]
    content = path.read_bytes()
    with serving(settings) as url:
        for broken in (content[:-1] + b"x", content[: len(content) // 2], b""):
            path.chmod(0o644)
            path.write_bytes(broken)
            assert code(post(url, "damaged")) == (503, "adapter_load_failed")
            assert post(url, "sound").status_code == 200
        path.write_bytes(content)
        assert post(url, "damaged").status_code == 200
        until_idle(url)


def test_a_corrupted_catalog_is_an_error_and_never_another_answer(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, [f"a{number}" for number in range(8)])
    folder = Path(settings.registry)
    registry = Registry.open(folder)
    right = {name: registry.resolve(name).digest for name in (f"a{n}" for n in range(8))}
    registry.catalog.close()
    (catalog,) = [
        each for each in folder.iterdir() if each.suffix in (".db", ".sqlite", ".sqlite3")
    ]
    with sqlite3.connect(catalog) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    sound = catalog.read_bytes()
    ends: Counter[int] = Counter()
    with serving(settings) as url:
        for page in range(1, len(sound) // PAGE, STRIDE):
            broken = bytearray(sound)
            broken[page * PAGE : (page + 1) * PAGE] = os.urandom(PAGE)
            catalog.write_bytes(broken)
            for name in ("a0", "a7"):
                reply = post(url, name)
                ends[reply.status_code] += 1
                if reply.status_code == 200:
                    assert reply.headers["x-hatstand-digest"] == right[name]
                else:
                    assert reply.json()["error"]["code"]
            assert post(url, "tiny").status_code == 200  # the bare base needs no catalog
        catalog.write_bytes(sound)
        assert post(url, "a0").headers["x-hatstand-digest"] == right["a0"]
    assert set(ends) - {200}, "no page that was broken mattered"


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[tuple[str, FaultyProxy, Registry, Path]]:
    """A server that follows a registry through a proxy."""
    settings = make_settings(tmp_path, ["known", "late"])
    registry = Registry.open(Path(settings.registry))
    with registry_server(registry) as behind:
        proxy = FaultyProxy(behind)
        there = type(settings)(base=settings.base, registry=proxy.url, port=0, engine=ENGINE)
        with serving(there) as url:
            assert post(url, "known").status_code == 200
            yield url, proxy, registry, Path(settings.base)
            proxy.become("passing")
        proxy.close()


ENGINE = EngineOptions(device="cpu", kv_memory=4 << 20, max_rank=8, max_slots=2)


@pytest.mark.parametrize("mode", ["refusing", "failing", "wrong", "slow", "deaf"])
def test_a_registry_that_fails_is_outlived(
    followed: tuple[str, FaultyProxy, Registry, Path], mode: Mode, tmp_path: Path
) -> None:
    url, proxy, registry, base = followed
    proxy.become(mode)
    for _ in range(5):
        assert post(url, "known").status_code == 200
    assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    if mode not in ("slow", "deaf"):  # to which a request gives its whole patience
        status, reason = code(post(url, "nobody"))
        assert status in (404, 502, 503), reason
    proxy.become("passing")
    folder = TinyAdapter("known", seed=5).write(base, tmp_path / "next")
    registry.push(folder, "known", base=read_base(base))
    eventually(lambda: post(url, "known").headers.get("x-hatstand-adapter") == "known@2")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, check=False) if _may_mount() else None
    if done is None or done.returncode:
        pytest.skip("mounting a small disk needs root and CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _may_mount() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0


def test_a_full_disk_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, ["sql"])
    base = Path(settings.base)
    folders = [TinyAdapter("x", seed=seed).write(base, tmp_path / f"{seed}") for seed in (1, 2)]
    registry = Registry.open(small_disk / "registry")
    first = registry.push(folders[0], "sql", base=read_base(base))
    ballast = small_disk / "ballast"
    fill(ballast)
    with pytest.raises((StoreFull, CatalogUnavailable), match=r"No space|full|disk"):
        registry.push(folders[1], "sql", base=read_base(base))
    with contextlib.suppress(CatalogUnavailable):  # SQLite may want room for reading, too
        assert [version.digest for version in registry.versions("sql")] == [first.digest]
    ballast.unlink()
    assert [version.digest for version in registry.versions("sql")] == [first.digest]
    assert all(check.is_sound for check in registry.verify())
    assert registry.push(folders[1], "sql", base=read_base(base)).number == 2
    assert all(check.is_sound for check in registry.verify())


def test_a_full_disk_is_told_over_http(small_disk: Path, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, [])
    base = Path(settings.base)
    folder = TinyAdapter("x").write(base, tmp_path / "x")
    registry = Registry.open(small_disk / "registry", database=str(tmp_path / "catalog.sqlite"))
    with registry_server(registry) as url, contextlib.closing(open_registry(url)) as remote:
        ballast = small_disk / "ballast"
        fill(ballast)
        with pytest.raises(StoreFull, match="registry gc"):
            remote.push(folder, "sql", base=read_base(base))
        ballast.unlink()
        assert remote.push(folder, "sql", base=read_base(base)).number == 1
    assert all(check.is_sound for check in registry.verify())


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(b"x" * 512)


def test_sigterm_under_load_tells_everybody(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    with server_process(make_settings(tmp_path, names)) as (url, process):
        outcomes: list[Outcome] = []
        asking = threading.Thread(
            target=lambda: outcomes.extend(in_loop(url, [*names, "tiny"] * 6, 60))
        )
        asking.start()
        while not httpx.get(f"{url}/debug/state", timeout=60).json()["queue"]["running"]:
            assert asking.is_alive()
        process.send_signal(signal.SIGTERM)
        asking.join()
        assert process.wait(60) == 0
    assert Counter(each.end for each in outcomes).keys() <= {"done", "refused", "unavailable"}
    assert sum(each.end == "done" for each in outcomes) > 0
    assert len(outcomes) == 24
