"""The commands of docs/operations.md, run as they are written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from registry.bases import read_base
from tests.registry.backends import postgres, postgres_programs, run_in_postgres
from tests.registry.making import TINY_CONFIG, make_adapter, write_safetensors

__all__ = ["postgres"]

ROOT = Path(__file__).parents[1]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with two trained adapters in `runs/`."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(TINY_CONFIG))
    write_safetensors(base / "model.safetensors", {})
    for seed, name in enumerate(("sql", "sql-2")):
        make_adapter(tmp_path / "runs" / name, seed=seed, lock=read_base(base))
    return tmp_path


def run(kind: str, work: Path, **environ: str) -> str:
    """All blocks of one kind, in their order; what they print."""
    text = (ROOT / "docs" / "operations.md").read_text()
    script = "\n".join(re.findall(rf"```sh {kind}\n(.*?)```", text, re.DOTALL))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=work,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_backup_and_restore(work: Path) -> None:
    output = run("operations", work)
    assert "2 versions and" in output
    assert "is not empty" in " ".join(output.split())
    assert output.count("prod") >= 2


@pytest.fixture
def databases(postgres: str) -> Iterator[list[str]]:
    """Two that are empty."""
    names = [f"operations_{uuid.uuid4().hex}" for _ in range(2)]
    for name in names:
        run_in_postgres(postgres, f"CREATE DATABASE {name}")
    url = sa.make_url(postgres)
    yield [url.set(database=name).render_as_string(hide_password=False) for name in names]
    for name in names:
        run_in_postgres(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_dump_of_postgresql(work: Path, databases: list[str]) -> None:
    # A dump wants tools as new as the server: those that came with it.
    path = f"{postgres_programs()}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    full, empty = databases
    output = run("postgres", work, PATH=path, HATSTAND_DATABASE=full, EMPTY_DATABASE=empty)
    assert output.count("sql@1") >= 2
    listed = output.rpartition("sql@2")[2]  # pushed after the dump
    assert "sql@1" in listed
