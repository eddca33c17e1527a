"""Places kept for those who were told when to come back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from server.engine import promises
from server.engine.departures import AT_FIRST
from server.engine.promises import ALIKE, EARLY, LATE, Promises
from server.engine.request import AdapterRef, GenerationRequest, SamplingParams
from server.errors import QueueFull
from tests.support.serving import Driver, make_engine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes when a test says so."""
    now = [100.0]
    monkeypatch.setattr("server.engine.promises.time.monotonic", lambda: now[0])
    return now


def asked(*prompt: int, adapter: str | None = None, scope: str = "") -> GenerationRequest:
    ref = AdapterRef(adapter, adapter) if adapter else None
    return GenerationRequest("id", prompt, SamplingParams(), ref, prefix_scope=scope)


def test_a_place_is_kept_around_the_time_for_whoever_asks_the_same(clock: list[float]) -> None:
    kept = Promises(most=4)
    assert kept.give(asked(1, 2), 1.2) == 2
    assert (kept.num_kept, kept.redeem(asked(1, 2))) == (0, False)  # much too early
    clock[0] += 2 - EARLY / 2
    assert kept.num_kept == 1
    for other in (asked(1), asked(1, 2, adapter="a"), asked(1, 2, scope="another's key")):
        assert not kept.redeem(other)
    assert kept.redeem(asked(1, 2))
    assert (kept.num_kept, kept.redeem(asked(1, 2))) == (0, False)


def test_who_does_not_come_is_forgotten(clock: list[float]) -> None:
    kept = Promises(most=4)
    kept.give(asked(1), 0.0)  # no less than a second
    kept.give(asked(2), 3.0)
    clock[0] += 1 + 2 * LATE
    assert (kept.num_kept, kept.redeem(asked(1))) == (0, False)
    clock[0] += 1
    assert kept.redeem(asked(2))


def test_some_places_are_for_whoever_comes_first(clock: list[float]) -> None:
    kept = Promises(most=2)
    for _ in range(3):
        kept.give(asked(1), 1.0)
    clock[0] += 1
    assert kept.num_kept == 2


def test_of_a_flood_no_more_are_remembered_than_is_cheap(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "REMEMBERED", 2)
    kept = Promises(most=8)
    assert [kept.give(asked(number), 1.0) for number in range(3)] == [1, 1, 1]
    clock[0] += 1
    assert [kept.redeem(asked(number)) for number in range(3)] == [True, True, False]


def test_those_who_did_not_come_make_room_for_others(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "REMEMBERED", 1)
    kept = Promises(most=8)
    kept.give(asked(1), 1.0)
    clock[0] += 1 + 2 * LATE
    kept.give(asked(2), 1.0)
    clock[0] += 1
    assert kept.redeem(asked(2))


def test_who_does_not_wait_is_told_the_last_time_again(clock: list[float]) -> None:
    kept = Promises(most=64)
    for number in range(ALIKE):
        assert kept.repeat(asked(1)) is None
        kept.give(asked(1), 1.0 + number)
    clock[0] += 0.25
    assert kept.repeat(asked(1)) == ALIKE
    assert kept.repeat(asked(2)) is None
    clock[0] += 1 + 2 * LATE  # the first of them was missed
    assert kept.repeat(asked(1)) is None


def test_nothing_is_kept_for_who_got_in_before_it_was_time(clock: list[float]) -> None:
    kept = Promises(most=4)
    kept.give(asked(1), 1.0)
    kept.drop(asked(1))
    kept.drop(asked(1))
    clock[0] += 1
    assert (kept.num_kept, kept.redeem(asked(1))) == (0, False)


@pytest.mark.usefixtures("clock")
def test_one_who_asks_again_and_again_keeps_nobody_else_waiting(tiny_base: Path) -> None:
    driver = Driver(make_engine(tiny_base, max_batch=1, max_waiting=2))
    for number in range(3):
        driver.submit([1, 2, number], max_tokens=1)
    for _ in range(1000):
        with pytest.raises(QueueFull):
            driver.submit([1, 2, 3], max_tokens=1)
    with pytest.raises(QueueFull) as full:
        driver.submit([1, 2, 4], max_tokens=1)
    assert full.value.retry_after == math.ceil(AT_FIRST * (ALIKE + 1))


def test_who_comes_when_told_to_gets_in_before_others(tiny_base: Path, clock: list[float]) -> None:
    driver = Driver(make_engine(tiny_base, max_batch=1, max_waiting=4))
    first = [driver.submit([1, 2, number], max_tokens=1) for number in range(5)]
    with pytest.raises(QueueFull) as full:
        driver.submit([1, 2, 7], max_tokens=1)
    while len(driver.deltas[first[3]]) == 0:
        driver.step()
    clock[0] += full.value.retry_after or 0
    for number in (20, 21, 22):
        driver.submit([1, 2, number], max_tokens=1)
    with pytest.raises(QueueFull):  # one place is left, and kept
        driver.submit([1, 2, 23], max_tokens=1)
    driver.submit([1, 2, 7], max_tokens=1)
    driver.run()
    assert driver.errors == {}
    driver.engine.check_idle()
