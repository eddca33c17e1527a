"""An isolated home for every test, and a tiny base to register adapters against."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import BaseRecord, Registry
from registry.bases import read_base
from tests.registry.backends import (
    BACKENDS,
    Backend,
    bucket,
    postgres,
    postgres_database,
    s3_prefix,
)
from tests.registry.making import TINY_CONFIG, make_adapter, write_safetensors

__all__ = ["bucket", "postgres", "postgres_database", "s3_prefix"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that says `EVERY_BACKEND = True` runs against every kind of catalog and store.

    `EVERY_DATABASE = True` is for what concerns the catalog alone.
    """
    if "backend" in metafunc.fixturenames:
        many = 4 if getattr(metafunc.module, "EVERY_BACKEND", False) else 1
        many = 2 if getattr(metafunc.module, "EVERY_DATABASE", False) else many
        metafunc.parametrize("backend", BACKENDS[:many], indirect=True)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh HATSTAND_HOME."""
    folder = tmp_path / "home"
    monkeypatch.setenv("HATSTAND_HOME", str(folder))
    return folder


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    """A checkpoint as far as the registry looks: config.json and one safetensors shard."""
    folder = tmp_path / "tiny-base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY_CONFIG))
    write_safetensors(folder / "model.safetensors", {})
    return folder


@pytest.fixture
def base(base_folder: Path) -> BaseRecord:
    return read_base(base_folder)


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    database, blobs = request.param.split("-")
    return Backend(
        tmp_path / "registry",
        request.getfixturevalue("postgres_database") if database == "postgres" else None,
        request.getfixturevalue("s3_prefix") if blobs == "s3" else None,
    )


@pytest.fixture
def registry(backend: Backend) -> Iterator[Registry]:
    opened = backend.open()
    yield opened
    opened.catalog.close()


@pytest.fixture
def adapter(tmp_path: Path, base: BaseRecord) -> Path:
    """A folder that can be pushed as it is."""
    return make_adapter(tmp_path / "adapter", lock=base)
