"""An isolated home for every test, and a tiny base to register adapters against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry import BaseRecord, Registry
from registry.bases import read_base
from tests.registry.making import TINY_CONFIG, make_adapter, write_safetensors


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
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry")


@pytest.fixture
def adapter(tmp_path: Path, base: BaseRecord) -> Path:
    """A folder that can be pushed as it is."""
    return make_adapter(tmp_path / "adapter", lock=base)
