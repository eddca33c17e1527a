"""The recipe of each article, from its file to an answer over HTTP that keeps the receipt.

On the embedded default with a few small rows, by each recipe's own settings; `seed_rows.SEEDS` has
what differs, and why. What is checked is the way, not what was learned.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from rich.console import Console
from transformers import AutoTokenizer

from clients.demo.processes import server
from registry import Hat, Registry
from registry.bases import read_base
from registry.receipts import RECEIPT_FILE, Receipt
from registry.replay import replay
from server.assembly import engine_settings
from server.bases import open_base
from server.engine.build import build_engine, start_worker
from server.proof.host import EngineHost
from server.residency import RegistrySource
from server.settings import EngineOptions
from tests.support.ports import free_port
from training.commands import Trained, train
from training.examples import Example
from training.generation import Generator
from training.model import load_base, lora_config, reload
from training.reading import read_recipe
from training.receipt import MAX_TOKENS, make_receipt, write_receipt
from training.rendering import Renderer

from .seed_rows import SEEDS
from .test_gptq import gptq_checkpoint

EXACT = 0.005  # between log-probabilities in fp32
RECIPES = Path("training/recipes")
STEPS = {  # as the articles' settings and so many rows come to
    "seed-1-finance-qlora": 5,
    "seed-2-sql-lora": 3,
    "seed-3-shawgpt-gptq": 3,
    "seed-5-five-steps": 2,
}
pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")


class Pushed:
    """All five, trained when first asked for, in one registry."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.registry = Registry.open(folder / "registry")
        self.base = base
        self._folder = folder
        self._trained: dict[str, Trained] = {}

    def trained(self, name: str) -> Trained:
        if name not in self._trained:
            make_rows, changed = SEEDS[name]
            settings = [
                *make_rows(self._folder),
                *self._bases(name),
                f"output={self._folder / name}",
                *(f"{key}={value}" for key, value in changed.items()),
            ]
            self._trained[name] = train(
                RECIPES / f"{name}.yaml",
                settings,
                name,
                self._folder / "registry",
                console=Console(file=io.StringIO()),
            )
        return self._trained[name]

    def _bases(self, name: str) -> list[str]:
        if "gptq" not in name:
            return [f"base={self.base}"]
        packed = self._folder / "gptq"
        if not packed.exists():
            gptq_checkpoint(self.base, packed, group=128)
        return [f"base={packed}", f"serve_on={self.base}"]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, embedded_base: Path) -> Pushed:
    return Pushed(tmp_path_factory.mktemp("seeds"), embedded_base)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("seed-1-finance-qlora", 10_223_616),
        ("seed-2-sql-lora", 3_407_872),
        ("seed-3-shawgpt-gptq", 2_097_152),
        ("seed-4-axolotl", 83_886_080),
    ],
)
def test_a_recipe_trains_as_many_parameters_as_its_article_says(
    tiny_base: Path, name: str, parameters: int
) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    from training.model import attach, count_parameters

    with torch.device("meta"):
        model: Any = MistralForCausalLM(MistralConfig())  # Mistral-7B's shapes, no weights
    config = lora_config(read_recipe(RECIPES / f"{name}.yaml").lora)
    assert count_parameters(attach(model, config, read_base(tiny_base))) == parameters


@pytest.mark.parametrize("name", SEEDS)
def test_a_recipe_trains_and_is_pushed(pushed: Pushed, name: str) -> None:
    result = pushed.trained(name)
    assert len(result.metrics.curves.train) == STEPS.get(name, len(result.metrics.curves.train)) > 1
    assert result.version is not None
    lock = pushed.registry.lock(result.version)
    assert lock.base == read_base(pushed.base)  # the one that serves, whatever it trained on
    assert lock.data
    losses = [loss for _, loss in result.metrics.curves.train]
    assert all(0 < loss < 20 for loss in losses)


@pytest.mark.parametrize("name", SEEDS)
def test_a_recipe_trains_by_its_own_settings(pushed: Pushed, name: str) -> None:
    """What the version says it was trained by is what the file says, but for what is listed."""
    own = read_recipe(RECIPES / f"{name}.yaml").model_dump(mode="json")
    version = pushed.trained(name).version
    assert version is not None
    trained = pushed.registry.lock(version).recipe
    different = {
        f"{section}.{key}": value
        for section in ("load", "lora", "hat", "train", "evaluate", "forgetting")
        for key, value in (trained[section] or {}).items()
        if value != own[section][key]
    }
    assert different == SEEDS[name][1]


def test_all_are_served_from_one_base_as_they_were_trained(pushed: Pushed, tmp_path: Path) -> None:
    receipts = {
        name: json.loads((pushed.trained(name).folder / "receipt.json").read_text())
        for name in SEEDS
    }
    port = free_port()
    words = ["serve", "--base", str(pushed.base), "--port", str(port)]
    words += ["--registry", str(pushed.registry.folder)]
    url = f"http://127.0.0.1:{port}"
    with server(words, url=url, log=tmp_path / "server.log"), httpx.Client(base_url=url) as client:
        for name, receipt in receipts.items():
            for probe in receipt["probes"]:
                body = {
                    "model": name, "messages": probe["messages"], "temperature": 0,
                    "max_tokens": len(probe["token_ids"]), "repetition_penalty": 1,
                }  # fmt: skip
                answer = client.post("/v1/chat/completions", json=body, timeout=120)
                assert answer.status_code == 200, answer.text
                assert answer.headers["x-hatstand-adapter"] == f"{name}@1"
                assert answer.json()["usage"]["prompt_tokens"] == len(probe["prompt_token_ids"])
                assert answer.json()["choices"][0]["message"]["content"] == probe["text"], name


@pytest.mark.slow
def test_every_receipt_is_kept_token_for_token(pushed: Pushed) -> None:
    from server.proof.opening import open_host

    with open_host(pushed.registry, str(pushed.base)) as host:
        for name in SEEDS:
            version = pushed.trained(name).version
            assert version is not None
            receipt = Receipt.from_bytes((pushed.trained(name).folder / RECEIPT_FILE).read_bytes())
            proof = replay(pushed.registry, version, host)
            print(
                name,
                proof,
                [probe.margin for probe in receipt.probes],
                [p.text for p in receipt.probes],
            )
            assert proof.num_probes == 2
            assert proof.num_near_ties <= 2, name


@pytest.mark.slow
def test_without_rounding_no_token_differs(
    pushed: Pushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt's first prompt again, in fp32 on both sides: no two tokens tie then."""
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: False)
    model = load_base(pushed.base)
    tokenizer = AutoTokenizer.from_pretrained(pushed.base)
    versions = []
    for name in SEEDS:
        folder = tmp_path / name
        shutil.copytree(pushed.trained(name).folder, folder)
        model = reload(model, folder)
        receipt = Receipt.from_bytes((folder / RECEIPT_FILE).read_bytes())
        asked = [Example(name, receipt.probes[0].messages, "")]
        renderer = Renderer(tokenizer, Hat.read(folder))
        made = make_receipt(asked, renderer, Generator(model, tokenizer, (), MAX_TOKENS, 1))
        assert made["activations"] == "float32"
        write_receipt(made, folder)
        versions.append(pushed.registry.push(folder, f"{name}-exact"))
    with host_in_fp32(pushed.registry, pushed.base) as host:
        for version in versions:
            proof = replay(pushed.registry, version, host)
            assert proof.num_near_ties == 0, version.ref
            assert proof.drift < EXACT, version.ref


@contextmanager
def host_in_fp32(registry: Registry, base: Path) -> Iterator[EngineHost]:
    """The engine as `open_host` has it, but for what it computes in."""
    opened = open_base(str(base))
    settings = engine_settings(EngineOptions(), opened)
    settings = replace(settings, dtype=torch.float32, weights="nf4-shadow")
    source = RegistrySource(registry, opened.record, opened.config, settings.max_rank)
    worker = start_worker(build_engine(opened, source, settings))
    try:
        yield EngineHost(worker, opened, activations="float32")
    finally:
        worker.stop()
