"""Receipts on a real engine: behind the server's gate and from the command line."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clients import Hatstand, HatstandError
from clients.errors import ApiError
from registry import Hat, Registry
from registry.bases import read_base
from registry.cli import app
from registry.errors import ReceiptMismatch
from registry.lock import GoldenPrompt, Lock
from registry.replay import Host
from registry.signing import Signer, sign
from server.errors import StartupError
from server.proof.opening import open_host
from server.serve import serving
from server.settings import ApiSettings, EngineOptions, Settings
from tests.registry.signing.pairs import Pair
from tests.support.tiny import TinyAdapter, write_tiny_base

QUESTION = ({"role": "user", "content": "How many?"},)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="module")
def registry(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """`sql` in three versions: 1 and 3 keep their receipts, 2 has the receipt of 1."""
    registry = Registry.open(tmp_path_factory.mktemp("registry"))
    folders = []
    for seed in range(3):
        folder = tmp_path_factory.mktemp(f"adapter-{seed}")
        TinyAdapter("sql", seed=seed).write(base, folder)
        folders.append(folder)
    with open_host(registry, str(base)) as host:
        receipts = [_receipt(registry, folder, base, host) for folder in folders]
    receipts[1] = receipts[0]
    for folder, receipt in zip(folders, receipts, strict=True):
        (folder / "receipt.json").write_text(json.dumps(receipt))
        registry.push(folder, "sql")
    registry.set_alias("sql", "prod", "sql@1")
    return registry


def _receipt(registry: Registry, folder: Path, base: Path, host: Host) -> dict[str, Any]:
    """What the adapter answers now, recorded as training would."""
    prompt = host.prompt_ids(Hat(), QUESTION)
    config = json.loads((folder / "adapter_config.json").read_text())
    Lock(
        base=read_base(base),
        adapter_dtype="float32",
        rank=config["r"],
        target_modules=tuple(config["target_modules"]),
        golden=(GoldenPrompt(messages=QUESTION, token_ids=tuple(prompt)),),
    ).write(folder)
    steps = host.greedy(registry.push(folder, "recording"), prompt, 12)
    tops = [sorted(step.logprobs.items(), key=lambda item: -item[1]) for step in steps]
    probe = {
        "messages": QUESTION,
        "prompt_token_ids": prompt,
        "token_ids": [step.token_id for step in steps],
        "top_token_ids": [[token for token, _ in top] for top in tops],
        "top_logits": [[value for _, value in top] for top in tops],
    }
    return {"format": 1, "activations": "float32", "probes": [probe]}


def test_a_moved_alias_waits_for_its_receipt(registry: Registry, base: Path) -> None:
    settings = _settings(registry, base, ApiSettings(require_receipt=True))
    with serving(settings) as url, Hatstand(url) as client:

        def served() -> str:
            return client.chat("sql", "How many?", max_tokens=2).adapter

        assert served() == "sql@1"
        registry.set_alias("sql", "prod", "sql@2")
        for _ in range(20):
            assert served() == "sql@1"
            time.sleep(0.02)
        assert client.chat("sql@2", "x", max_tokens=1).adapter == "sql@2"  # as it was asked for
        registry.set_alias("sql", "prod", "sql@3")
        deadline = time.monotonic() + 60
        while served() != "sql@3":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        registry.set_alias("sql", "prod", "sql@1")
        assert served() == "sql@1"


def test_a_restarted_server_replays_nothing_again(
    registry: Registry, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HATSTAND_HOME", str(tmp_path))
    settings = _settings(registry, base, ApiSettings(require_receipt=True))

    def ask() -> None:
        with serving(settings) as url, Hatstand(url) as client:
            assert client.chat("sql", "How many?", max_tokens=1).adapter == "sql@1"

    ask()
    monkeypatch.setattr("registry.replay.replay", _never)
    ask()
    shutil.rmtree(tmp_path / "proofs")
    with pytest.raises(HatstandError):
        ask()


def _never(*_: object) -> None:
    raise ReceiptMismatch("it was replayed again")


def test_only_signed_versions_are_served(registry: Registry, base: Path, tmp_path: Path) -> None:
    ann = Pair(tmp_path, "ann")
    sign(registry, registry.resolve("sql@1"), Signer(ann.private))
    sign(registry, registry.resolve("sql@3"), Signer(Pair(tmp_path, "mallory").private))
    settings = _settings(registry, base, ApiSettings(trusted_keys=(ann.public,)))
    with serving(settings) as url, Hatstand(url) as client:
        assert client.chat("sql@1", "How many?", max_tokens=1).adapter == "sql@1"
        for name, code in (("sql@2", "signature_missing"), ("sql@3", "signature_invalid")):
            with pytest.raises(ApiError) as refused:
                client.chat(name, "How many?", max_tokens=1)
            assert (refused.value.status, refused.value.code) == (403, code)
        sign(registry, registry.resolve("sql@2"), Signer(ann.private))
        assert client.chat("sql@2", "How many?", max_tokens=1).adapter == "sql@2"
    missing = _settings(registry, base, ApiSettings(trusted_keys=(tmp_path / "none",)))
    with pytest.raises(StartupError, match="--require-signature"), serving(missing):
        pass


def _settings(registry: Registry, base: Path, api: ApiSettings) -> Settings:
    engine = EngineOptions(device="cpu", kv_memory=4 << 20, max_rank=8, max_slots=2)
    return Settings(base=str(base), registry=registry.folder, port=0, api=api, engine=engine)


def run(*arguments: object, code: int) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_the_commands_replay_on_the_base(registry: Registry, base: Path) -> None:
    where = ("--registry", registry.folder, "--host-base", base)
    output = run("verify", "sql", "--replay", *where, code=1)
    assert "receipt kept  sql@1  1 probes, 12 tokens" in output
    assert "receipt broken  sql@2  sql@2 does not answer as in training: probe 1, token" in output
    assert "receipt kept  sql@3" in output
    (check,) = json.loads(run("verify", "sql@3", "--replay", "--json", *where, code=0))
    assert check["receipt"]["is_kept"]
    assert check["receipt"]["proof"]["num_tokens"] == 12


def test_an_alias_moves_only_with_a_kept_receipt(registry: Registry, base: Path) -> None:
    where = ("--registry", registry.folder, "--require-receipt", "--host-base", base)
    output = run("alias", "set", "sql", "canary", "2", *where, code=1)
    assert "does not answer as in training" in output
    assert "canary" not in registry.aliases("sql")
    run("alias", "set", "sql", "canary", "3", *where, code=0)
    assert registry.aliases("sql")["canary"].number == 3
