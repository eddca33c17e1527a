"""Import and export over HTTP, by the command as people run it, with HF_ENDPOINT set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry import BaseRecord, Registry
from registry.bases import UNQUANTIZED, read_base
from registry.errors import InvalidReference
from registry.homes import base_cache, default_registry
from registry.hub import HubReference, look_at
from tests.registry.making import make_adapter, write_safetensors
from tests.support.hub import StandInHub, stand_in_hub

Command = Callable[..., Any]


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    with stand_in_hub() as hub:
        yield hub


@pytest.fixture
def base_folder(base_folder: Path) -> Path:
    """With a shard that is large enough for the Hub to keep its digest."""
    write_safetensors(base_folder / "model.safetensors", {"w": np.ones((32, 32), np.float32)})
    return base_folder


@pytest.fixture
def command(hub: StandInHub, tmp_path: Path) -> Command:
    """Run `registry … --json`; what it printed, parsed."""

    def run(*arguments: object, code: int = 0) -> Any:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": "hf_test",
            "HF_HUB_DISABLE_XET": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "registry", *map(str, arguments), "--json"],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)

    return run


def test_a_name_that_the_hub_knows_none_like_is_refused_unasked() -> None:
    with pytest.raises(InvalidReference, match="cannot start or end"):
        look_at(HubReference.parse("hf://org/name-"))


def upload(hub: StandInHub, name: str, folder: Path) -> str:
    return hub.add(name, {path.name: path.read_bytes() for path in folder.iterdir()})


def test_a_base_has_one_fingerprint_by_any_route(
    hub: StandInHub, command: Command, base_folder: Path, tmp_path: Path
) -> None:
    commit = upload(hub, "org/tiny", base_folder)
    shutil.copytree(base_folder, tmp_path / "mirror")
    shutil.copytree(base_folder, base_cache() / "pulled")
    adapter = make_adapter(tmp_path / "a")
    routes = ("hf://org/tiny", f"hf://org/tiny@{commit}", tmp_path / "mirror", "pulled")
    prints = {
        command("push", adapter, f"by-{n}", "--base", route)["base_fingerprint"]
        for n, route in enumerate(routes)
    }
    assert prints == {read_base(base_folder).fingerprint}
    assert not any("resolve" in line and "safetensors" in line for line in hub.requests)
    assert read_base(base_folder, quantization=UNQUANTIZED).fingerprint not in prints


def test_a_sharded_base_is_read_by_its_index(
    hub: StandInHub, command: Command, base_folder: Path, tmp_path: Path
) -> None:
    (base_folder / "model.safetensors").rename(base_folder / "model-1.safetensors")
    write_safetensors(base_folder / "model-2.safetensors", {"v": np.ones((32, 32), np.float32)})
    write_safetensors(base_folder / "other.safetensors", {"v": np.ones((32, 32), np.float32)})
    mapping = {"w": "model-1.safetensors", "v": "model-2.safetensors"}
    index = base_folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": mapping}))
    upload(hub, "org/tiny", base_folder)
    adapter = make_adapter(tmp_path / "a")
    pushed = command("push", adapter, "sql", "--base", "hf://org/tiny")
    assert pushed["base_fingerprint"] == read_base(base_folder).fingerprint
    hub.add("org/tiny", {"model-2.safetensors": b"small"})
    error = command("push", adapter, "sql", "--base", "hf://org/tiny", code=1)["error"]
    assert "model-2.safetensors has no sha256" in error["message"]


def test_an_import_pins_the_commit_and_needs_the_hub_once(
    hub: StandInHub, command: Command, base_folder: Path, tmp_path: Path
) -> None:
    upload(hub, "org/base", base_folder)
    folder = make_adapter(tmp_path / "a", base_model_name_or_path="org/base")
    (folder / "training_args.bin").write_bytes(b"\x80")
    (folder / "README.md").write_text("# Mine")
    commit = upload(hub, "Org/My_Adapter", folder)
    imported = command("import", "hf://Org/My_Adapter", "--alias", "prod")
    assert imported["ref"] == "my_adapter@1"
    assert imported["source"] == f"hf://Org/My_Adapter@{commit}"
    assert not any("training_args" in line for line in hub.requests)
    assert not any("base/resolve" in line and "safetensors" in line for line in hub.requests)

    again = command("import", f"hf://Org/My_Adapter@{commit}")
    assert (again["digest"], again["is_new"]) == (imported["digest"], False)
    hub.is_down = True
    registry = Registry.open(default_registry())
    version = registry.resolve("my_adapter@prod")
    assert registry.lock(version).imported_from == f"hf://Org/My_Adapter@{commit}"
    assert registry.lock(version).base.source == "org/base"
    assert command("verify", "my_adapter")[0]["is_sound"]
    error = command("import", "hf://Org/My_Adapter", code=1)["error"]
    assert error["code"] == "hub_unavailable"


def test_a_pulled_base_is_preferred_and_a_named_one_wins(
    hub: StandInHub, command: Command, base_folder: Path, tmp_path: Path
) -> None:
    upload(hub, "org/a", make_adapter(tmp_path / "a", base_model_name_or_path="org/base"))
    error = command("import", "hf://org/a", code=1)["error"]
    assert (error["code"], "org/base" in error["message"]) == ("hub_not_found", True)
    shutil.copytree(base_folder, base_cache() / "org--base")
    assert command("import", "hf://org/a", "--name", "x")["ref"] == "x@1"
    assert command("import", "hf://org/a", "--name", "y", "--base", base_folder)["ref"] == "y@1"
    upload(hub, "org/b", make_adapter(tmp_path / "b", base_model_name_or_path="/etc"))
    assert "--base" in command("import", "hf://org/b", code=1)["error"]["message"]


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("hf://org/nothing", 1, "not on the Hub"),
        ("hf://org/a@nothing", 1, "not on the Hub"),
        ("hf://org", 2, "write hf://org/name"),
        ("org/a", 2, "write hf://org/name"),
        ("hf://org/..", 2, "write hf://org/name"),
        ("hf://org/pickled", 1, "adapter_model.bin is pickled"),
        ("hf://org/other", 1, "is it a PEFT adapter"),
        ("hf://org/dora", 1, "DoRA"),
    ],
)
def test_what_cannot_be_imported_says_why(
    hub: StandInHub,
    command: Command,
    base_folder: Path,
    tmp_path: Path,
    source: str,
    code: int,
    words: str,
) -> None:
    adapter = make_adapter(tmp_path / "a")
    upload(hub, "org/a", adapter)
    upload(hub, "org/dora", adapter)
    config = (adapter / "adapter_config.json").read_bytes()
    hub.add("org/pickled", {"adapter_config.json": config, "adapter_model.bin": b"\x80"})
    hub.add("org/other", {"model.safetensors": b""})
    dora = json.dumps({**json.loads(config), "use_dora": True}).encode()
    hub.add("org/dora", {"adapter_config.json": dora})
    error = command("import", source, "--base", base_folder, code=code)["error"]
    assert words in error["message"]
    assert not list((default_registry() / "blobs" / "sha256").rglob("*"))


def test_too_large_an_adapter_is_not_downloaded(
    hub: StandInHub, command: Command, base_folder: Path, tmp_path: Path
) -> None:
    upload(hub, "org/a", make_adapter(tmp_path / "a"))
    arguments = ("import", "hf://org/a", "--base", base_folder, "--size-limit", "0.000001")
    assert command(*arguments, code=1)["error"]["code"] == "too_large"
    assert not any("resolve" in line for line in hub.requests)


def test_an_exported_version_comes_back_as_the_same(
    hub: StandInHub, command: Command, adapter: Path, base: BaseRecord, tmp_path: Path
) -> None:
    (adapter / "README.md").write_text("# SQL\n" + "x" * 2000)
    pushed = command("push", adapter, "sql")
    exported = command("export", "sql", "--to", "hf://team/sql-adapter")
    commit = exported["target"].rpartition("@")[2]
    files = hub.repositories["team/sql-adapter"].commits[commit]
    assert set(files) == {file["name"] for file in pushed["files"]}
    command("export", "sql", "--to", "hf://team/sql-adapter")  # there already
    there = tmp_path / "elsewhere"
    imported = command("import", exported["target"], "--name", "sql", "--registry", there)
    assert imported["digest"] == pushed["digest"]
    assert imported["base_fingerprint"] == base.fingerprint
