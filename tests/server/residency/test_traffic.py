"""Many adapters, few slots, requests without end: everybody gets on, nobody waits for another."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from server.engine.request import AdapterRef, GenerationRequest, SamplingParams
from server.engine.slots import PackedAdapter
from server.residency import tenant
from tests.support.serving import Driver, FolderSource, make_engine
from tests.support.tiny import TinyAdapter, write_tiny_base
from tests.support.waiting import PATIENCE

NAMES = "abcdef"
PROMPT = tuple(range(20))


@dataclass
class SlowSource:
    """Folders whose adapters come when their gate opens."""

    fast: FolderSource
    gates: dict[str, threading.Event] = field(default_factory=dict)

    def load(self, adapter: AdapterRef) -> PackedAdapter:
        gate = self.gates.get(adapter.digest)
        assert gate is None or gate.wait(PATIENCE)
        return self.fast.load(adapter)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def folders(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: TinyAdapter(name, rank=2 + index, seed=index).write(base, folder / name)
        for index, name in enumerate(NAMES)
    }


def test_with_more_adapters_than_slots_every_adapter_gets_on(
    base: Path, folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant, "MIN_STAY", 0.005)
    driver = Driver(make_engine(base, folders, max_slots=2, max_batch=8))
    waiting: dict[str, str] = {}
    done: Counter[str] = Counter()
    lengths = itertools.cycle([3, 9, 27])
    deadline = time.monotonic() + PATIENCE
    while min(done[name] for name in NAMES) < 6:
        assert time.monotonic() < deadline, f"somebody starves: {done}"
        for key in (f"{name}{number}" for name in NAMES for number in range(3)):
            request_id = waiting.get(key)
            if request_id is None or is_done(driver, request_id):
                done[key[0]] += request_id is not None
                waiting[key] = driver.submit(PROMPT, key[0], max_tokens=next(lengths))
        driver.step()
    stats = driver.engine.stats()
    assert stats.num_adapter_evictions > 0
    assert max(done.values()) < 30 * min(done.values())


def is_done(driver: Driver, request_id: str) -> bool:
    deltas = driver.deltas[request_id]
    return bool(deltas) and deltas[-1].finish_reason is not None


def test_the_bare_base_needs_no_slot(base: Path, folders: Mapping[str, Path]) -> None:
    driver = Driver(make_engine(base, folders, max_slots=1))
    ids = [driver.submit(PROMPT, name, max_tokens=4) for name in ("a", None, "b", None, "c")]
    driver.run()
    assert [len(driver.tokens(request_id)) for request_id in ids] == [4] * 5


def test_streams_go_on_while_somebodys_adapter_loads(
    base: Path, folders: Mapping[str, Path]
) -> None:
    engine = make_engine(base, folders)
    source = SlowSource(engine.adapters._newcomers._loader._source)  # type: ignore[attr-defined]
    engine.adapters._newcomers._loader._source = source  # type: ignore[attr-defined]
    gate = source.gates["b"] = threading.Event()
    driver = Driver(engine)
    warm = driver.submit(PROMPT, "a", max_tokens=60)
    while not driver.deltas[warm]:
        driver.step()
    cold = driver.submit(PROMPT, "b", max_tokens=5)
    for _ in range(30):
        before = len(driver.tokens(warm))
        driver.step()
        assert len(driver.tokens(warm)) == before + 1  # not one step is missed
    late = driver.submit(PROMPT[:5], "a", max_tokens=5)
    while not is_done(driver, late):
        driver.step()
    assert not driver.deltas[cold]
    gate.set()
    driver.run()
    assert len(driver.tokens(cold)) == 5


def test_an_adapter_comes_back_with_the_same_answers(
    base: Path, folders: Mapping[str, Path]
) -> None:
    driver = Driver(make_engine(base, folders, max_slots=1))
    rounds = []
    for _ in range(2):
        ids = [driver.submit(PROMPT, name, max_tokens=8) for name in "abc"]
        driver.run()
        rounds.append([driver.tokens(request_id) for request_id in ids])
    assert rounds[0] == rounds[1]
    assert len({tuple(tokens) for tokens in rounds[0]}) == 3


def test_whoever_has_the_same_name_but_other_contents_shares_nothing(
    base: Path, folders: Mapping[str, Path]
) -> None:
    """A reload under the same name must not meet the old slot, nor its cached prefixes."""
    driver = Driver(make_engine(base, folders))
    params = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)
    for digest in ("a", "b"):
        driver.deltas[digest] = []
        driver.engine.add(GenerationRequest(digest, PROMPT, params, AdapterRef(digest, "sql")))
        driver.run()
    assert driver.deltas["b"][-1].num_cached_tokens == 0
    assert driver.tokens("a") != driver.tokens("b")
