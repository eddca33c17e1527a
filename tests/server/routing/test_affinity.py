"""Three servers behind the endpoint picker: requests go where their adapter is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from registry import Registry
from registry.bases import read_base
from server.serve import serving
from server.settings import EngineOptions, Settings
from tests.server.routing.picker import LoraInfo, pick, scrape
from tests.support.tiny import TinyAdapter, write_tiny_base

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

NUM_SERVERS, NUM_SLOTS, NUM_ADAPTERS, NUM_REQUESTS = 3, 4, 12, 150
ENGINE = EngineOptions(device="cpu", kv_memory=1 << 20, max_rank=4, max_slots=NUM_SLOTS)
NAMES = [f"task-{number}" for number in range(NUM_ADAPTERS)]
ZIPF = [1 / rank for rank in range(1, NUM_ADAPTERS + 1)]
TRAFFIC = random.Random(7).choices(NAMES, ZIPF, k=NUM_REQUESTS)
Choose = Callable[[dict[str, LoraInfo], str, random.Random], str]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Adapters of one base, each behind an alias."""
    root = tmp_path_factory.mktemp("routing")
    base = write_tiny_base(root / "tiny")
    registry = Registry.open(root / "registry")
    for seed, name in enumerate(NAMES):
        adapter = TinyAdapter(name, seed=seed, targets=("q_proj",)).write(base, root / name)
        registry.push(adapter, name, alias="prod", base=read_base(base))
    return Settings(base=str(base), registry=registry.folder, port=0, engine=ENGINE)


@pytest.fixture
def clients(settings: Settings) -> Iterator[dict[str, httpx.Client]]:
    """A client for each server, by its URL; no server has seen any traffic."""
    with ExitStack() as running:
        urls = [running.enter_context(serving(settings)) for _ in range(NUM_SERVERS)]
        yield {url: running.enter_context(httpx.Client(base_url=url, timeout=60)) for url in urls}


def look(clients: dict[str, httpx.Client]) -> dict[str, LoraInfo]:
    return {url: scrape(client.get("/metrics").text) for url, client in clients.items()}


def activations(client: httpx.Client) -> int:
    """How many adapters the engine itself counts as written into a slot."""
    series = 'vllm:lora_adapter_load_seconds_count{transition="activate"} '
    lines = client.get("/metrics").text.splitlines()
    (value,) = (line.removeprefix(series) for line in lines if line.startswith(series))
    return int(float(value))


def hit_rate(clients: dict[str, httpx.Client], choose: Choose) -> float:
    """The share of requests that found their adapter in a slot."""
    chance = random.Random(11)
    before = sum(map(activations, clients.values()))
    seen_missing = 0
    for model in TRAFFIC:
        endpoints = look(clients)
        url = choose(endpoints, model, chance)
        seen_missing += model not in endpoints[url].running
        body = {"model": model, "prompt": "x", "max_tokens": 1}
        assert clients[url].post("/v1/completions", json=body).status_code == 200
    # Residents are listed truly: what the picker could see is what the engine then had to do.
    assert sum(map(activations, clients.values())) - before == seen_missing
    return 1 - seen_missing / NUM_REQUESTS


def anywhere(endpoints: dict[str, LoraInfo], _model: str, chance: random.Random) -> str:
    return chance.choice(sorted(endpoints))


def test_affinity_finds_adapters_where_chance_does_not(
    clients: dict[str, httpx.Client], record_property: Callable[[str, object], None]
) -> None:
    by_chance = hit_rate(clients, anywhere)
    for client in clients.values():
        for name in NAMES:
            client.post("/v1/unload_lora_adapter", json={"lora_name": name})
    by_affinity = hit_rate(clients, pick)
    record_property("hit rates", {"chance": by_chance, "affinity": by_affinity})
    # All adapters fit the slots of all: but for each one's first request, none need be loaded.
    assert by_affinity == 1 - len(set(TRAFFIC)) / NUM_REQUESTS
    assert by_chance < 0.75


def test_every_name_of_a_request_is_listed_before_any_traffic(
    clients: dict[str, httpx.Client],
) -> None:
    url, client = next(iter(clients.items()))
    empty = look(clients)[url]
    assert (empty.running, empty.waiting, empty.room) == (frozenset(), frozenset(), NUM_SLOTS)
    names = {"task-0", "task-0@1", "task-0@prod"}
    assert client.post("/v1/load_lora_adapter", json={"lora_name": "task-0"}).status_code == 200
    for model in names:
        scores = {each: info.score(model) for each, info in look(clients).items()}
        assert scores.pop(url) == 1.0
        assert set(scores.values()) == {0.8}
    info = look(clients)[url]
    assert info.running == names
    assert info.room - len(info.running) == NUM_SLOTS - 1  # slots that are free
