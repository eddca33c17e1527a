"""The simulation of docs/scaling.md, where the result can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from docs.scaling.machine import H200, Machine, Speed
from docs.scaling.routing import Anywhere
from docs.scaling.shelf import Shelf
from docs.scaling.simulate import ROUTERS, Case, row
from docs.scaling.simulation import Simulation
from docs.scaling.traffic import Traffic
from server.residency.residency import LEAVING
from server.residency.tenant import MIN_STAY

SPEED = Speed(
    step=0.01,
    per_row=0.001,
    per_adapter=0.0,
    prompt=0.02,
    per_prompt_token=0.0,
    beside=0.005,
    per_token_beside=0.0,
    swap=0.1,
    load=1.0,
)
MACHINE = Machine(SPEED, slots=2, max_batch=4, chunk=64, lone_chunk=64, host_adapters=3)
ONE = Traffic(num_adapters=1, zipf=1.0, prompt_tokens=8, answer_tokens=11, is_varied=False)


def test_one_caller_waits_for_its_prompt_and_then_for_each_step() -> None:
    simulation = Simulation(MACHINE, 1, ONE, Anywhere, seed=1)
    simulation.fill(dealt=False)
    outcome = simulation.run_callers(1, seconds=100, warm_up=10)
    assert outcome.ttft_at(50) == pytest.approx(0.02)
    assert outcome.requests_a_second == pytest.approx(1 / (0.02 + 10 * 0.011), rel=0.01)
    assert outcome.hit_rate == 1


def test_a_prompt_beside_rows_shares_their_step() -> None:
    assert SPEED.of_step(rows=0, adapters=0, prompt_tokens=8) == pytest.approx(0.02)
    assert SPEED.of_step(rows=3, adapters=1, prompt_tokens=0) == pytest.approx(0.013)
    assert SPEED.of_step(rows=3, adapters=1, prompt_tokens=8) == pytest.approx(0.018)


def test_the_way_over_http_is_longer_beside_others() -> None:
    speed = replace(SPEED, request=0.003, per_stream=0.001)
    assert speed.over_http(streams=0) == pytest.approx(0.003)
    assert speed.over_http(streams=7) == pytest.approx(0.010)
    simulation = Simulation(replace(MACHINE, speed=speed), 1, ONE, Anywhere, seed=1)
    simulation.fill(dealt=False)
    outcome = simulation.run_callers(1, seconds=100, warm_up=10)
    assert outcome.ttft_at(50) == pytest.approx(0.02 + 0.003)


def test_ways_over_http_differ_as_they_were_measured_to() -> None:
    speed = replace(SPEED, request=0.03, http_spread=0.01)
    simulation = Simulation(replace(MACHINE, speed=speed), 1, ONE, Anywhere, seed=1)
    simulation.fill(dealt=False)
    ttft = simulation.run_callers(1, seconds=1000, warm_up=10).ttft
    assert ttft.mean() == pytest.approx(0.02 + 0.03, rel=0.05)
    assert ttft.std() == pytest.approx(0.01, rel=0.1)


def test_a_caller_asks_for_the_same_adapters_every_time() -> None:
    traffic = replace(ONE, num_adapters=50)
    one, again, other = (traffic.asked_by(caller) for caller in (1, 1, 2))
    first = [next(one) for _ in range(20)]
    assert first == [next(again) for _ in range(20)] != [next(other) for _ in range(20)]


def test_a_cold_adapter_costs_its_load_and_its_swap() -> None:
    simulation = Simulation(MACHINE, 1, ONE, Anywhere, seed=1)
    outcome = simulation.run_callers(1, seconds=10, warm_up=0)
    assert outcome.ttft[0] == pytest.approx(1.0 + 0.1 + 0.02)
    assert outcome.ttft_at(50) == pytest.approx(0.02)


def test_a_swap_may_stop_everybody() -> None:
    speed = replace(SPEED, swap_stops=True)
    shelf = Shelf(replace(MACHINE, speed=speed))
    assert not shelf.enter(5, now=0.0)
    shelf.settle(now=1.0)
    assert shelf.stopped == pytest.approx(0.1)
    assert shelf.enter(5, now=1.0)


def test_whoever_was_entered_longest_ago_leaves_and_nobody_in_use_does() -> None:
    shelf = Shelf(MACHINE)
    shelf.fill([1, 2, 3])
    assert shelf.enter(1, now=0.0)  # and stays in use
    assert shelf.enter(2, now=0.0)
    shelf.leave(2)
    assert not shelf.enter(3, now=1.0)  # it is in host memory
    shelf.settle(now=1.0)
    assert set(shelf.tenants) == {1}
    shelf.settle(now=1.2)
    assert set(shelf.tenants) == {1, 3}
    assert not shelf.enter(2, now=1.2)
    shelf.settle(now=1.3)
    assert set(shelf.tenants) == {1, 3}  # the one is in use, the other was just brought


def test_half_of_the_slots_are_cleared_at_once_for_those_who_wait() -> None:
    shelf = Shelf(replace(MACHINE, slots=4, host_adapters=9))
    shelf.fill([1, 2, 3, 4, 5, 6, 7])
    assert all(shelf.enter(adapter, now=0.0) for adapter in (1, 2, 3, 4))
    assert not any(shelf.enter(adapter, now=1.0) for adapter in (5, 6, 7))
    shelf.settle(now=1.0)
    assert [adapter for adapter in shelf.tenants if shelf.tenants[adapter].makes_room] == [1, 2]


def test_the_server_clears_as_many_as_the_simulation() -> None:
    assert (MACHINE.leaving, MACHINE.min_stay) == (LEAVING, MIN_STAY)


def test_routing_by_adapter_finds_more_of_them_in_slots() -> None:
    traffic = Traffic(num_adapters=200, zipf=1.0, prompt_tokens=16, answer_tokens=8)
    found = {}
    for name, router in ROUTERS.items():
        simulation = Simulation(H200, 4, traffic, router, seed=1)
        simulation.fill(dealt=name != "random")
        found[name] = simulation.run(200.0, seconds=4, warm_up=1).hit_rate
    assert found["random"] < found["affinity 1:2:1"] <= found["affinity 3:2:1"]
    assert found["affinity 3:2:1"] > 0.95


def test_every_request_is_answered_once() -> None:
    outcome = Case(4, "affinity 1:2:1", 10).run(steps=2400)
    values = row(Case(4, "affinity 1:2:1", 10), outcome)
    assert values["answered"] == pytest.approx(10, rel=0.2)
    assert outcome.waiting == 0
    assert 0 < outcome.hit_rate < 1
