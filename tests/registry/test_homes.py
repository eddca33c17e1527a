from __future__ import annotations

from pathlib import Path

import pytest

from registry import homes


def test_the_environment_variable_moves_everything(home: Path) -> None:
    assert homes.hatstand_home() == home
    assert homes.base_cache() == home / "bases"
    assert homes.default_registry() == home / "registry"
    assert homes.adapter_cache() == home / "cache"


def test_without_it_state_lives_in_the_users_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HATSTAND_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert homes.hatstand_home().name == "hatstand"
    assert homes.hatstand_home().is_relative_to(tmp_path)


def test_the_home_is_absolute_whatever_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATSTAND_HOME", "relative")
    assert homes.hatstand_home() == Path.cwd() / "relative"
    monkeypatch.setenv("HATSTAND_HOME", "~/there")
    assert homes.hatstand_home() == Path.home() / "there"
