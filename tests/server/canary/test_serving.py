"""A canary on a real server with a real engine: from its first request to its end."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry import Registry
from registry.bases import read_base
from registry.canary.rules import Rules
from registry.referrers import EVALUATION, add_referrer
from server.serve import serving
from server.settings import ApiSettings, EngineOptions, Settings
from tests.server.test_registry_link import registry_server
from tests.support.tiny import TinyAdapter, write_tiny_base
from tests.support.waiting import eventually

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
ENGINE = EngineOptions(device="cpu", kv_memory=4 << 20, max_rank=8, max_slots=3)
API = ApiSettings(canary_interval=0.05)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="module")
def folders(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters that answer, one whose answers are no numbers, one of too high a rank."""
    return [
        TinyAdapter("sql", seed=seed, rank=rank).write(
            base, tmp_path_factory.mktemp(f"adapter-{seed}"), std=std
        )
        for seed, rank, std in ((0, 4, 0.15), (1, 4, 0.15), (2, 4, 1e18), (3, 16, 0.15))
    ]


@pytest.fixture
def registry(base: Path, folders: list[Path], tmp_path: Path) -> Registry:
    registry = Registry.open(tmp_path / "registry")
    for folder in folders:
        registry.push(folder, "sql", base=read_base(base))
    registry.set_alias("sql", "prod", "sql@1")
    return registry


@dataclass(frozen=True)
class Users:
    """Callers of one server."""

    http: httpx.Client

    def ask(self, session: str = "", user: str | None = None, model: str = "sql") -> httpx.Response:
        body: dict[str, Any] = {"model": model, "prompt": "x", "max_tokens": 2}
        headers = {"x-hatstand-session": session} if session else {}
        if user is not None:
            body["user"] = user
        return self.http.post("/v1/completions", json=body, headers=headers)

    def who(self, session: str = "", **more: Any) -> str:
        answer = self.ask(session, **more)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-hatstand-adapter"]

    def crowd(self, sessions: list[str]) -> list[str]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(self.who, sessions))

    def metric(self, name: str) -> list[str]:
        text = self.http.get("/metrics").text
        return re.findall(rf"^{name}.*$", text, re.MULTILINE)


@contextmanager
def calling(url: str) -> Iterator[Users]:
    with httpx.Client(base_url=url, timeout=60) as http:
        yield Users(http)


@pytest.fixture
def users(registry: Registry, base: Path) -> Iterator[Users]:
    settings = Settings(base=str(base), registry=registry.folder, port=0, engine=ENGINE, api=API)
    with serving(settings) as url, calling(url) as users:
        yield users


def taken(registry: Registry, *, yes: bool) -> str:
    """A session that the canary takes, or does not."""
    split = registry.route("sql").split
    assert split is not None
    return next(name for name in map(str, range(10_000)) if split.takes(name) is yes)


def test_a_good_canary_goes_all_the_way(registry: Registry, users: Users) -> None:
    rules = Rules(
        steps=(10, 50),
        step_seconds=0,
        bake_seconds=0,
        min_requests=20,
        max_ttft_p95=30,
        metrics=("exact_match>=0.9",),
    )
    registry.canaries.start("sql", "prod", "2", rules, expected=1, by="ann", why="better?")
    lucky, other = taken(registry, yes=True), taken(registry, yes=False)
    assert users.who(lucky) == "sql@1"  # not loaded yet: nobody waits for it
    eventually(lambda: users.who(lucky) == "sql@2")
    assert [users.who(other) for _ in range(3)] == ["sql@1"] * 3
    assert [users.who("", user=lucky) for _ in range(3)] == ["sql@2"] * 3
    assert users.who(lucky, model="sql@prod") == "sql@2"
    assert users.who(lucky, model="sql@1") == "sql@1"

    sessions = [f"session-{number}" for number in range(400)]
    first = users.crowd(sessions)
    share = Counter(first)["sql@2"]
    assert abs(share - 40) < 4 * math.sqrt(400 * 0.1 * 0.9)
    again = users.crowd(sessions[:100])
    assert again == first[:100]

    (weight,) = users.metric("hatstand_canary_weight{")
    assert weight == 'hatstand_canary_weight{alias="sql@prod",version="sql@2"} 10.0'
    counted = users.metric("hatstand_canary_requests{")
    assert len(counted) == 2
    assert 'arm="canary",version="sql@2"' in counted[1]
    assert float(counted[1].split()[-1]) >= share
    names = users.metric('vllm:lora_adapter_loaded{adapter_name="sql",')
    assert len(names) == 2  # a gateway finds both versions under the name

    eventually(lambda: registry.canaries.standing("sql", "prod").evidence.target.requests >= share)
    assert registry.route("sql").split is not None  # the evaluation is not there yet
    content = {"metrics": {"exact_match": 0.97}}
    add_referrer(registry, registry.resolve("sql@2"), EVALUATION, content, by="ci")
    eventually(lambda: registry.canaries.standing("sql", "prod").canary.weight == 50)
    eventually(lambda: users.metric("hatstand_canary_weight{")[0].endswith(" 50.0"))
    more = users.crowd(sessions[:150])
    assert all(now == "sql@2" for then, now in zip(first, more, strict=False) if then == "sql@2")
    eventually(lambda: registry.resolve("sql").number == 2)
    eventually(lambda: users.who(other) == "sql@2")
    eventually(lambda: not users.metric("hatstand_canary_weight{"))
    assert [event.kind for event in registry.alias_history("sql", "prod")] == [
        "set",
        "canary.start",
        "canary.advance",
        "canary.promote",
    ]


def test_one_that_fails_is_taken_back(registry: Registry, users: Users) -> None:
    rules = Rules(steps=(50,), min_requests=20, max_error_rate=0.1)
    registry.canaries.start("sql", "prod", "3", rules)
    lucky = taken(registry, yes=True)
    eventually(lambda: users.ask(lucky).status_code == 500)
    eventually(lambda: users.ask(lucky) and not registry.canaries.running(), "it is taken back")
    assert users.who(lucky) == "sql@1"
    ended = registry.canaries.standing("sql", "prod").canary
    assert ended.state == "aborted"
    assert "requests failed, over 10.0%" in ended.verdict
    last = registry.alias_history("sql", "prod")[-1]
    assert (last.kind, last.by, last.weight, last.to_number) == (
        "canary.abort",
        "canary rules",
        0,
        1,
    )


def test_one_that_is_too_slow_is_taken_back(registry: Registry, users: Users) -> None:
    rules = Rules(steps=(50,), min_requests=5, max_ttft_p95=0.0001)  # no server is that quick
    registry.canaries.start("sql", "prod", "2", rules)
    sessions = [f"session-{number}" for number in range(40)]
    eventually(lambda: users.crowd(sessions) and not registry.canaries.running())
    ended = registry.canaries.standing("sql", "prod").canary
    assert "p95 first token is" in ended.verdict
    assert set(users.crowd(sessions)) == {"sql@1"}


def test_one_that_does_not_load_gets_no_request(registry: Registry, users: Users) -> None:
    registry.canaries.start("sql", "prod", "4", Rules(steps=(100,)))
    answered = set()
    eventually(lambda: answered.add(users.who("anybody")) or not registry.canaries.running())
    assert answered == {"sql@1"}
    ended = registry.canaries.standing("sql", "prod").canary
    assert ended.state == "aborted"
    assert "rank" in ended.verdict


def test_a_server_that_follows_takes_part(registry: Registry, base: Path) -> None:
    rules = Rules(steps=(50, 100), step_seconds=0, bake_seconds=0, min_requests=5)
    with registry_server(registry) as where:
        settings = Settings(base=str(base), registry=where, port=0, engine=ENGINE, api=API)
        with serving(settings) as url, calling(url) as users:
            assert users.who() == "sql@1"
            registry.canaries.start("sql", "prod", "2", rules)
            lucky = taken(registry, yes=True)
            eventually(lambda: users.who(lucky) == "sql@2")
            eventually(lambda: users.who(lucky) and registry.resolve("sql").number == 2)
            eventually(lambda: users.who("anybody") == "sql@2")
    history = [(each.kind, each.weight) for each in registry.alias_history("sql", "prod")]
    assert history[1:] == [("canary.start", 50), ("canary.advance", 100), ("canary.promote", 100)]
