"""What is told to somebody who finds every place taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.engine.departures import Departures
from server.errors import QueueFull
from tests.support.serving import Driver, make_engine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes when a test says so."""
    now = [100.0]
    monkeypatch.setattr("server.engine.departures.time.monotonic", lambda: now[0])
    return now


def test_the_mean_time_between_the_newest_ends(clock: list[float]) -> None:
    departures = Departures()
    assert departures.next_in() == 1
    for _ in range(40):
        departures.note()
        clock[0] += 3
    assert departures.next_in() == 3
    for _ in range(31):  # those that came faster push the slower ones out
        departures.note()
        clock[0] += 0.5
    departures.note()
    assert departures.next_in() == pytest.approx(0.5)
    clock[0] += 20  # nothing has ended for a while
    assert departures.next_in() == 20


def test_a_full_engine_says_when_to_come_back(tiny_base: Path, clock: list[float]) -> None:
    driver = Driver(make_engine(tiny_base, max_batch=1, max_waiting=1))
    for _ in range(3):
        driver.submit([1, 2, 3], max_tokens=1)
        driver.run()
        clock[0] += 7
    for _ in range(2):
        driver.submit([1, 2, 3], max_tokens=4)
    with pytest.raises(QueueFull) as full:
        driver.submit([1, 2, 3], max_tokens=4)
    assert full.value.retry_after == 7
    driver.run()
