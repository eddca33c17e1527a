"""The whole server: a real base, a real registry, real adapters, over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from clients import Hatstand
from clients.errors import NotFound
from registry import Registry
from registry.bases import read_base
from registry.errors import RegistryUnreachable
from server.assembly import _check_pins as check_pins
from server.assembly import assemble, choose_device, engine_settings
from server.bases import open_base
from server.errors import StartupError
from server.serve import serving
from server.settings import ApiSettings, EngineOptions, Settings
from tests.support.tiny import TinyAdapter, write_tiny_base
from tests.support.waiting import PATIENCE

# peft reads a name that transformers has since renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ENGINE = EngineOptions(device="cpu", kv_memory=4 << 20, max_rank=8, max_slots=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def adapters(base: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters; `sql` is in the registry before the server starts."""
    root = tmp_path_factory.mktemp("adapters")
    made = {
        name: TinyAdapter(name, seed=seed).write(base, root / name)
        for seed, name in enumerate(("sql", "pirate"))
    }
    Registry.open(folder).push(made["sql"], "sql", alias="prod", base=read_base(base))
    return made


@pytest.fixture(scope="module")
def settings(base: Path, folder: Path, adapters: dict[str, Path]) -> Settings:
    assert adapters
    return Settings(
        base=str(base), registry=folder, port=0, api=ApiSettings(pins=("sql",)), engine=ENGINE
    )


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    with serving(settings) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Hatstand]:
    with Hatstand(url) as client:
        yield client


def test_base_and_adapter_answer_differently(client: Hatstand) -> None:
    name = client.models()[0].id
    options = {"temperature": 0.0, "max_tokens": 8, "ignore_eos": True}
    by_base = client.chat(name, "How many?", return_token_ids=True, **options)
    by_adapter = client.chat("sql", "How many?", return_token_ids=True, **options)
    assert (by_base.adapter, by_adapter.adapter) == (name, "sql@1")
    assert by_base.usage.completion == by_adapter.usage.completion == 8
    tokens = [answer.raw["choices"][0]["token_ids"] for answer in (by_base, by_adapter)]
    assert tokens[0] != tokens[1]


def test_streaming_gives_the_same_text(client: Hatstand) -> None:
    whole = client.chat("sql", "How many?", temperature=0, max_tokens=12, ignore_eos=True)
    with client.stream("sql", "How many?", temperature=0, max_tokens=12, ignore_eos=True) as stream:
        assert "".join(event.text for event in stream) == whole.text


def test_push_while_serving_is_servable_at_once(
    client: Hatstand, base: Path, folder: Path, adapters: dict[str, Path]
) -> None:
    with pytest.raises(NotFound):
        client.chat("pirate", "Ahoy", max_tokens=2)
    registry = Registry.open(folder)
    registry.push(adapters["pirate"], "pirate", base=read_base(base))
    assert client.chat("pirate", "Ahoy", max_tokens=2).adapter == "pirate@1"
    registry.push(adapters["pirate"], "sql", base=read_base(base))
    assert client.chat("sql", "Ahoy", max_tokens=2).adapter == "sql@1"  # prod has not moved
    for version in ("sql@2", "sql@1"):
        registry.set_alias("sql", "prod", version, by="test")
        assert client.chat("sql", "Ahoy", max_tokens=2).adapter == version


def test_leases_protect_what_is_served(client: Hatstand, folder: Path) -> None:
    client.chat("sql@1", "x", max_tokens=1)
    registry = Registry.open(folder)
    assert registry.resolve("sql@1").digest in {lease.digest for lease in registry.leases()}


def test_load_unload_and_metrics(client: Hatstand, url: str) -> None:
    client.load("sql@1", pin=True)
    client.chat("sql@1", "Ahoy", max_tokens=2)
    ready = httpx.get(f"{url}/readyz", timeout=PATIENCE)
    assert ready.status_code == 200, ready.text
    resident = 'hatstand_adapter_resident{adapter="sql@1"'
    assert resident in httpx.get(f"{url}/metrics", timeout=PATIENCE).text
    client.unload("sql@1")
    assert resident not in httpx.get(f"{url}/metrics", timeout=PATIENCE).text
    assert httpx.get(f"{url}/debug/batches", timeout=PATIENCE).json()["batches"]


def test_context_limit_counts_both(url: str) -> None:
    body = {"model": "sql", "prompt": "x" * 500, "max_tokens": 50}
    reply = httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE)
    error = reply.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "512" in error["message"]


def test_more_answers_than_there_are_places_are_refused_for_good(settings: Settings) -> None:
    small = replace(settings, engine=replace(ENGINE, max_batch=2, max_queue=3))
    with serving(small) as url:
        for count, status in ((6, 400), (5, 200)):
            body = {"model": "sql", "prompt": "x", "max_tokens": 1, "n": count}
            reply = httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE)
            assert reply.status_code == status, reply.text
            if status == 400:
                assert "limit of 5" in reply.json()["error"]["message"]


def test_what_cannot_start_says_so(settings: Settings, tmp_path: Path) -> None:
    def silent(*_: object) -> None:
        pass

    for change, words in (
        ({"base": str(tmp_path / "nothing")}, "nothing"),
        ({"api": ApiSettings(pins=("nobody",))}, "--pin nobody: There is no adapter"),
        ({"engine": EngineOptions(device="cpu", kv_memory=1)}, "--kv-memory"),
        ({"engine": EngineOptions(device="cpu", kv_memory=1 << 50)}, "less --kv-memory"),
        ({"engine": EngineOptions(device="cpu", max_context=4096)}, "--max-context 4096"),
        (
            {"engine": EngineOptions(device="cpu", kv_memory=1 << 16, max_context=512)},
            "--max-context 512 is over the [0-9]+ tokens.*more --kv-memory",
        ),
    ):
        with pytest.raises(StartupError, match=words):
            assemble(replace_settings(settings, change), silent)


def test_a_pin_waits_for_a_registry_that_does_not_answer(settings: Settings, base: Path) -> None:
    class Silent:
        def route(self, reference: object) -> object:
            raise RegistryUnreachable(f"nobody answers about {reference}")

    check_pins(settings, open_base(str(base)), Silent())  # type: ignore[arg-type]


def replace_settings(settings: Settings, change: dict[str, object]) -> Settings:
    return replace(settings, **change)  # type: ignore[arg-type]


def test_devices() -> None:
    import torch

    if not torch.cuda.is_available():
        assert choose_device("auto") == "cpu"
        with pytest.raises(StartupError, match="--device cpu"):
            choose_device("cuda")


def test_options_keep_the_engines_defaults(base: Path) -> None:
    from server.engine.config import EngineSettings

    opened = open_base(str(base))
    defaults = engine_settings(EngineOptions(device="cpu"), opened)
    # A server has tenants to be fair to; whoever builds an engine says so.
    share = EngineOptions().adapter_share
    assert share < 1
    assert defaults == EngineSettings(device="cpu", adapter_share=share)
    asked = EngineOptions(device="cpu", max_queue=7, shadow_bf16=True)
    assert engine_settings(asked, opened).max_waiting == 7
    assert engine_settings(asked, opened).weights == "nf4-shadow"
