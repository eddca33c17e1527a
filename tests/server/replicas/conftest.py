"""Two replicas over one registry, started once for all tests of the folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry import Registry
from registry.bases import read_base
from registry.keys import Keys
from tests.server.replicas.processes import Fleet, Process, registry_process
from tests.support.bridle import Bridle
from tests.support.tiny import TinyAdapter, write_tiny_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("replicas") / "tiny")


@pytest.fixture(scope="session")
def registry(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The registry beside its folder: `sql` in two versions, and `late`, which nobody loads yet."""
    root = tmp_path_factory.mktemp("registry")
    registry = Registry.open(root / "registry")
    for seed, name in enumerate(("sql", "sql", "late")):
        adapter = TinyAdapter(name, seed=seed).write(base, root / f"{name}-{seed}")
        registry.push(adapter, name, base=read_base(base))
    registry.set_alias("sql", "prod", "sql@1")
    return registry


@pytest.fixture(scope="session")
def fleet(
    base: Path, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Replicas come with a key that may read and report, and no more."""
    folder = tmp_path_factory.mktemp("fleet")
    _, token = Keys(registry.catalog).create("replicas", ["read", "report"])
    with (
        registry_process(registry.folder, folder / "registry.log") as served,
        ExitStack() as running,
    ):
        yield Fleet(base, served.url, token, folder, running, Bridle.put_on(folder / "bridle"))


@pytest.fixture(scope="session")
def replicas(fleet: Fleet) -> list[Process]:
    """Two that are ready."""
    replicas = [fleet.start(name) for name in ("one", "two")]
    for replica in replicas:
        replica.wait_ready()
    return replicas
