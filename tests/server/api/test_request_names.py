"""Scrapes may come as often as they like: the catalog is read when somebody committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry import Registry
from registry.bases import BaseRecord, read_base
from server.api import request_names
from server.api.request_names import RequestNames
from server.engine.request import AdapterRef
from tests.registry.making import TINY_CONFIG, make_adapter, write_safetensors


@pytest.fixture
def base(tmp_path: Path) -> BaseRecord:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(TINY_CONFIG))
    write_safetensors(tmp_path / "base" / "model.safetensors", {})
    return read_base(tmp_path / "base")


def test_without_a_commit_nothing_is_read(
    tmp_path: Path, base: BaseRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_names, "NAMES_LAST", -1.0)
    registry = Registry.open(tmp_path / "registry")
    held = []
    for name in ("sql", "chat"):
        version = registry.push(make_adapter(tmp_path / name, lock=base), name)
        held.append(AdapterRef(version.digest, version.ref))
    reads = []
    read = registry.catalog.read
    monkeypatch.setattr(registry.catalog, "read", lambda: reads.append(1) or read())
    names = RequestNames(registry)
    for _ in range(20):
        assert [names.of(each) for each in held] == [["sql@1", "sql"], ["chat@1", "chat"]]
    assert len(reads) == 2
    registry.set_alias("sql", "late", "sql@1")
    reads.clear()
    for _ in range(20):
        assert [names.of(each) for each in held] == [
            ["sql@1", "sql@late", "sql"],
            ["chat@1", "chat"],
        ]
    assert len(reads) == 2
