"""`registry backup` and `registry restore`, and a backup that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from registry import BaseRecord, Registry
from registry.backup import back_up
from registry.cli import app
from tests.registry.backends import Backend
from tests.registry.making import make_adapter
from tests.registry.test_backup import assert_whole

ROOT = Path(__file__).parents[2]


def test_a_killed_backup_leaves_the_one_before(
    registry: Registry, backend: Backend, base: BaseRecord, tmp_path: Path
) -> None:
    registry.push(make_adapter(tmp_path / "a", lock=base), "sql")
    back_up(registry, tmp_path / "backup")
    registry.push(make_adapter(tmp_path / "b", seed=1, lock=base), "sql")
    program = (
        "import os, sys; from pathlib import Path\n"
        "import registry.backup as backup; from registry import Registry\n"
        "backup._exchange = lambda *_: os._exit(9)\n"
        "backup.back_up(Registry.open(sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(backend.folder), str(tmp_path / "backup")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=environ, check=False).returncode == 9
    with closing(Registry.open(tmp_path / "backup")) as kept:
        assert [version.number for version in kept.versions("sql")] == [1]
        assert_whole(kept)
    back_up(registry, tmp_path / "backup")
    assert Registry.open(tmp_path / "backup").resolve("sql@2")


def test_the_commands(
    registry: Registry, base: BaseRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push(make_adapter(tmp_path / "a", lock=base), "sql")
    monkeypatch.setenv("HATSTAND_REGISTRY", str(registry.folder))
    kept, again = str(tmp_path / "backup"), str(tmp_path / "again")
    runner = CliRunner()
    made = runner.invoke(app, ["backup", kept])
    assert "1 versions" in made.output, made.output
    assert runner.invoke(app, ["restore", kept, "--registry", again]).exit_code == 0
    shown = runner.invoke(app, ["list", "--registry", again, "--json"])
    assert [each["name"] for each in json.loads(shown.stdout)] == ["sql"]
    refused = runner.invoke(app, ["restore", kept, "--registry", again])
    assert refused.exit_code == 1
    assert "not empty" in " ".join(refused.output.split())
    nothing = runner.invoke(
        app, ["restore", str(tmp_path / "a"), "--registry", str(tmp_path / "x")]
    )
    assert "is no backup" in nothing.output
    assert runner.invoke(app, ["backup", str(registry.folder)]).exit_code == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("HATSTAND_DATABASE", "postgresql://nobody@127.0.0.1:1/x"), ("HATSTAND_BLOBS", "elsewhere")],
)
def test_no_other_registry_is_looked_at_in_a_backups_place(
    registry: Registry,
    base: BaseRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    registry.push(make_adapter(tmp_path / "a", lock=base), "sql")
    kept = tmp_path / "backup"
    back_up(registry, kept)
    runner = CliRunner()
    assert runner.invoke(app, ["verify", "--registry", str(kept)]).exit_code == 0
    monkeypatch.setenv(name, value)
    refused = runner.invoke(app, ["verify", "--registry", str(kept)])
    assert refused.exit_code == 1
    assert "is a backup" in " ".join(refused.output.split())
