"""What is told to somebody who finds every place taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.engine.departures import AT_FIRST, LONGEST, Departures
from server.errors import AdapterLoadError, QueueFull
from tests.support.serving import Driver, make_engine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes when a test says so."""
    now = [100.0]
    monkeypatch.setattr("server.engine.departures.time.monotonic", lambda: now[0])
    return now


def test_the_mean_time_between_the_newest_ends(clock: list[float]) -> None:
    departures = Departures()
    assert departures.next_in() == AT_FIRST
    for _ in range(40):
        clock[0] += 3
        departures.note()
    assert departures.next_in() == 3
    for _ in range(32):  # those that came faster push the slower ones out
        clock[0] += 0.5
        departures.note()
    assert departures.next_in() == pytest.approx(0.5)
    clock[0] += 20  # nothing has ended for a while
    assert departures.next_in() == 20


def test_a_pause_in_which_nobody_was_there_does_not_count(clock: list[float]) -> None:
    departures = Departures()
    for _ in range(3):
        clock[0] += 2
        departures.note()
    clock[0] += 1000
    departures.begin()
    assert departures.next_in() == 2
    clock[0] += 2
    departures.note()
    assert departures.next_in() == 2


def test_a_full_engine_says_when_to_come_back(tiny_base: Path, clock: list[float]) -> None:
    driver = Driver(make_engine(tiny_base, max_batch=1, max_waiting=1))
    for _ in range(3):
        driver.submit([1, 2, 3], max_tokens=1)
        clock[0] += 7
        driver.run()
    for _ in range(2):
        driver.submit([1, 2, 3], max_tokens=4)
    with pytest.raises(QueueFull) as full:
        driver.submit([1, 2, 3], max_tokens=4)
    assert full.value.retry_after == 7
    driver.run()


def test_those_who_are_refused_are_not_all_told_to_come_for_the_same_place(
    clock: list[float],
) -> None:
    departures = Departures()
    for _ in range(3):
        departures.note()
        clock[0] += 2
    assert [departures.book() for _ in range(3)] == [2, 4, 6]
    clock[0] += 5
    assert departures.book() == 1 + 7  # nothing has ended for 7 s
    for _ in range(100):
        assert departures.book() <= LONGEST


def test_the_longest_line_makes_room_in_a_full_queue(tiny_base: Path) -> None:
    driver = Driver(make_engine(tiny_base, max_batch=1, max_waiting=3, max_slots=1))
    crowd = [driver.submit([1, 2, number], max_tokens=2) for number in range(4)]
    guest = driver.submit([1, 2, 3], "nobody", max_tokens=2)
    with pytest.raises(QueueFull):
        driver.submit([1, 2, 3], max_tokens=2)
    driver.run()
    assert isinstance(driver.errors.pop(crowd[-1]), QueueFull)
    assert isinstance(driver.errors.pop(guest), AdapterLoadError)
    assert driver.errors == {}
    assert all(len(driver.tokens(each)) == 2 for each in crowd[:-1])
    driver.engine.check_idle()
