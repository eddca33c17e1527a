"""An isolated home for every test, and a tiny base to register adapters against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.registry.making import TINY_CONFIG, write_safetensors


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
