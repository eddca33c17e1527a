"""Requests that no client would send, at a real engine with too little of everything."""

from __future__ import annotations

from tests.fuzz.live import attack


def test_strange_requests_that_come_at_once_and_leave() -> None:
    callers = attack(800, seed=3)
    assert not callers.wrong
    assert callers.statuses[200] > 20
    assert callers.statuses[400] > 20
