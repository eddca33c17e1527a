"""`hatstand plan` prints what a server would do."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from registry import Registry
from registry.bases import read_base
from server.engine.planner import GIB, Plan
from server.errors import StartupError
from server.planning import print_plan
from tests.support.hub import stand_in_hub
from tests.support.tiny import TinyAdapter, write_tiny_base

LIMITS = {"adapters": 4, "rank": 8, "context": 100, "shadow": False}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_base(tmp_path_factory.mktemp("base") / "base"))


def test_it_names_every_part(base: str) -> None:
    out = io.StringIO()
    made = print_plan(base, gpu_memory=2 * GIB, console=Console(file=out, width=100), **LIMITS)
    for text in ("weights", "4 adapters of rank 8", "KV cache", f"{made.kv_tokens:,}"):
        assert text in out.getvalue()
    assert f"{made.kv_tokens // 100:,}" in out.getvalue()


def test_a_config_alone_says_enough(base: str, tmp_path: Path) -> None:
    shutil.copy(Path(base) / "config.json", tmp_path)
    assert _planned(str(tmp_path)) == _planned(base)


def test_a_base_is_planned_by_what_adapters_in_the_registry_say_of_it(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HATSTAND_HOME", str(tmp_path / "home"))
    record = read_base(Path(base)).model_copy(update={"name": "tiny", "source": "org/Tiny"})
    elsewhere = str(tmp_path / "registry")
    with pytest.raises(StartupError, match=r"config\.json.*trained on \(none\)"):
        _planned("tiny", registry=elsewhere)
    assert not Path(elsewhere).exists()
    adapter = TinyAdapter("sql").write(Path(base), tmp_path / "sql")
    with contextlib.closing(Registry.open(elsewhere)) as registry:
        registry.push(adapter, "sql", base=record)
    assert _planned("tiny", registry=elsewhere) == _planned(base)
    assert _planned("org/Tiny", registry=elsewhere) == _planned(base)
    with pytest.raises(StartupError, match=r"trained on \(tiny\)"):
        _planned("tinny", registry=elsewhere)


def test_a_base_on_the_hub_is_planned_without_its_weights(base: str, tmp_path: Path) -> None:
    with stand_in_hub() as hub:
        hub.add("org/tiny", {path.name: path.read_bytes() for path in Path(base).iterdir()})
        command = "plan --base hf://org/tiny --gpu-memory 2GiB --adapters 4 --rank 8 --json"
        done = subprocess.run(
            [sys.executable, "-m", "clients", *command.split()],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["kv_tokens"] == _planned(base).kv_tokens
        assert not any("resolve" in line and "safetensors" in line for line in hub.requests)


def _planned(base: str, registry: str | None = None) -> Plan:
    return print_plan(
        base,
        gpu_memory=2 * GIB,
        registry=registry,
        console=Console(file=io.StringIO()),
        **LIMITS,
    )


def test_what_does_not_fit_is_an_error(base: str) -> None:
    with pytest.raises(StartupError, match="nothing is left"):
        print_plan(base, gpu_memory=GIB // 4, **LIMITS)
    with pytest.raises(StartupError, match="nowhere"):
        print_plan("nowhere", gpu_memory=GIB, **LIMITS)
