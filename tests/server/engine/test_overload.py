"""Many more clients and adapters than there are places and slots, in the simulation's time."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import pytest

from server.engine.config import EngineSettings
from tests.torture.simulation import CPU, H200, Load, Simulation


def everybody(num_clients: int, num_adapters: int) -> list[str]:
    return list(islice(cycle(f"a{number}" for number in range(num_adapters)), num_clients))


@pytest.fixture(scope="module", params=["cpu", "h200"])
def run(request: pytest.FixtureRequest) -> Simulation:
    if request.param == "cpu":  # as in `tests.torture.load`
        load, cost = Load(everybody(256, 64), num_prompt=3, num_tokens=8, spread=0.3), CPU
        settings = EngineSettings(max_slots=16, max_waiting=160)
    else:  # as in `tests.gpu.bench_soak`
        load, cost = Load(everybody(256, 96), num_prompt=120, num_tokens=64, spread=0.3), H200
        settings = EngineSettings(max_slots=48, max_batch=128, chunk=2048, lone_chunk=4096)
    return Simulation(load, settings, cost).run(30.0)


def test_hardly_anybody_waits_for_longer_than_a_round(run: Simulation) -> None:
    took = 30.0 * 3 / 4  # what is counted of it
    a_round = len(run.load.adapters) * took / run.counts["done"]  # in which each has had a turn
    assert np.percentile([t for seen in run.seen.values() for t in seen.first], 95) < 1.2 * a_round
    means = [np.mean(seen.first) for seen in run.seen.values()]
    assert max(means) < 2 * min(means)


def test_nobody_who_has_begun_waits_for_others(run: Simulation) -> None:
    gaps = [gap for seen in run.seen.values() for gap in seen.gaps]
    assert np.percentile(gaps, 99.9) < 0.1
    assert max(gaps) < 0.5


def test_who_comes_back_when_told_to_gets_in(run: Simulation) -> None:
    came, again = run.counts["came back"], run.counts["refused again"]
    assert again <= 0.05 * came
