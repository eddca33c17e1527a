from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from registry import BaseRecord, Hat
from registry.cli import app
from registry.homes import base_cache, default_registry
from tests.registry.making import make_adapter


def run(*arguments: object, code: int = 0) -> str:
    """What a command printed on standard output; its exit code must be `code`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stdout if code == 0 else result.output


def run_json(*arguments: object, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code))


def test_the_whole_life_of_an_adapter(adapter: Path, base: BaseRecord, tmp_path: Path) -> None:
    Hat(system_prompt="Answer in [b]SQL[/b].", stop=(";",)).write(adapter)
    second = make_adapter(tmp_path / "b", seed=1, lock=base)
    first_digest = run_json("push", adapter, "sql", "--alias", "prod", "--why", "first")["digest"]
    assert default_registry().is_dir()
    assert "sql@2" in run("push", second, "sql", "--by", "ann")
    assert "already" in run("push", second, "sql")

    listing = run("list")
    assert "prod→1" in listing
    assert "sql@2" in run("list", "sql")
    shown = run("show", "sql")
    assert first_digest in shown
    assert "Answer in [b]SQL[/b]." in shown
    assert "tiny-base" in shown

    run("alias", "set", "sql", "prod", "2", "--why", "better", "--expected", "1")
    run("alias", "rollback", "sql", "prod", "--by", "ann", "--why", "worse")
    history = run("alias", "history", "sql", "prod")
    assert "rollback" in history
    assert "worse" in history
    events = run_json("alias", "history", "sql", "prod")
    assert [event["to_number"] for event in events] == [1, 2, 1]

    assert run("verify").count("sound") == 2
    run("pull", "sql@2", tmp_path / "out")
    assert (tmp_path / "out" / "lock.json").exists()
    assert "--force" in run("pull", "sql@1", tmp_path / "out", code=1)
    run("pull", "sql@1", tmp_path / "out", "--force")


def test_json_tells_programs_the_same(adapter: Path, tmp_path: Path) -> None:
    assert run_json("list") == []
    pushed = run_json("push", adapter, "sql", "--registry", tmp_path / "r")
    assert pushed["ref"] == "sql@1"
    assert pushed["is_new"] is True
    assert pushed["report"]["max_rank"] == 4
    where = ("--registry", tmp_path / "r")
    assert run_json("list", *where)[0]["newest"]["digest"] == pushed["digest"]
    assert run_json("list", "sql", *where)[0]["version"] == 1
    shown = run_json("show", "sql@1", *where)
    assert shown["base"]["name"] == "tiny-base"
    assert shown["lock"]["rank"] == 4
    (check,) = run_json("verify", *where)
    assert check["is_sound"] is True
    assert run_json("pull", "sql", tmp_path / "out", *where)["version"] == 1
    assert run_json("alias", "set", "sql", "prod", "sql@1", *where)["alias"] == "prod"
    error = run_json("show", "sgl", *where, code=1)["error"]
    assert error["code"] == "adapter_not_found"
    assert "did you mean 'sql'" in error["message"]


def test_a_base_is_named_by_path_or_by_its_pulled_name(base_folder: Path, tmp_path: Path) -> None:
    plain = make_adapter(tmp_path / "plain")
    assert "--base" in run("push", plain, "sql", code=1)
    assert "hatstand base pull tiny" in run("push", plain, "sql", "--base", "tiny", code=1)
    shutil.copytree(base_folder, base_cache() / "tiny")
    run("push", plain, "sql", "--base", "tiny")
    assert run_json("push", plain, "sql2", "--base", base_folder)["is_new"]


def test_refusals_are_messages_and_exit_codes(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(b"\x80")
    assert "adapter_model.bin" in run("push", adapter, "sql", code=1)
    (adapter / "adapter_model.bin").unlink()
    assert "over the limit" in run("push", adapter, "sql", "--size-limit", "0", code=1)
    assert "adapter name" in run("push", adapter, "SQL", code=2)
    assert "--alias" in run("push", adapter, "sql@prod", code=2)
    assert "no registry" in run("list", "--registry", "https://", code=1)
    assert "not empty" in run("list", "--registry", adapter, code=1)
    assert "no adapter" in run("alias", "history", "sql", "prod", code=1)
    run("push", adapter, "sql")
    (tmp_path / "locked").write_text("")
    assert "Not a directory" in run("pull", "sql", tmp_path / "locked" / "below", code=1)
    run("push", code=2)
    run("unknown", code=2)


def test_warnings_and_damage_are_shown(adapter: Path) -> None:
    (adapter / "tokenizer.json").write_text("{}")
    result = CliRunner().invoke(app, ["push", str(adapter), "sql"])
    assert "warning: not stored: tokenizer.json" in result.stderr
    blobs = default_registry() / "blobs" / "sha256"
    weights = max(blobs.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    output = run("verify", code=1)
    assert "damaged" in output
    assert "adapter_model.safetensors" in output
    assert "Push the original folder again" in output
    run("push", adapter, "sql")
    assert "sound" in run("verify", "sql@1")


@pytest.mark.parametrize(
    "command",
    [("list",), ("show", "sql"), ("alias", "history", "sql", "prod"), ("keys", "list"), ("gc",)],
)
def test_a_mistyped_folder_is_no_empty_registry(command: tuple[str, ...], tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    assert "there is no registry at" in run(*command, "--registry", lost, code=2)
    assert not lost.exists()


def test_a_push_begins_a_registry_where_there_was_none(adapter: Path, tmp_path: Path) -> None:
    run("push", adapter, "sql", "--registry", tmp_path / "fresh")
    assert "sql" in run("list", "--registry", tmp_path / "fresh")


def test_lint_says_what_a_push_would(adapter: Path, base: BaseRecord, tmp_path: Path) -> None:
    wanted = run_json("lint", adapter)
    assert wanted["is_accepted"]
    assert run("list").startswith("The registry is empty")
    assert run_json("push", adapter, "sql")["digest"] == wanted["digest"]
    folder = make_adapter(tmp_path / "b", lock=base, use_rslora=True, rank_pattern={"v_proj": 2})
    shown = run("lint", folder, "--modules")
    for words in ("use_rslora accepted", "rank_pattern accepted", "self_attn.v_proj", "of 4"):
        assert words in " ".join(shown.split())


def test_lint_names_every_refused_feature(adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    wrong = {**config, "use_dora": True, "use_rslora": True, "modules_to_save": ["lm_head"]}
    (adapter / "adapter_config.json").write_text(json.dumps(wrong))
    found = run_json("lint", adapter, code=1)
    verdicts = {verdict["key"]: verdict["is_accepted"] for verdict in found["verdicts"]}
    assert verdicts == {"use_dora": False, "use_rslora": True, "modules_to_save": False}
    assert found["error"]["code"] == "adapter_config_refused"
    output = run("lint", adapter, code=1)
    assert "and 1 more reasons" in output
    assert "whole modules" in output
    (adapter / "adapter_config.json").write_text("{")
    assert run_json("lint", adapter, code=1)["verdicts"] == []


def test_an_empty_registry_says_what_to_do() -> None:
    assert "registry push" in run("list")
    assert run("verify") == ""


def test_help_needs_neither_database_nor_torch() -> None:
    code = (
        "import sys\n"
        "from registry.cli import main\n"
        "sys.argv = ['registry', 'push', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as done:\n    assert not done.code\n"
        "heavy = {'sqlalchemy', 'numpy', 'alembic', 'jinja2', 'torch', 'transformers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("module", ["registry.embedded", "registry.adapters", "registry.cli"])
def test_the_registry_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}\nassert not {{'torch', 'transformers'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_every_public_name_is_there() -> None:
    import registry

    assert registry.__all__ == sorted(registry.__all__)
    for name in registry.__all__:
        assert getattr(registry, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = registry.Nothing
