"""Connections that ask nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from server.api.silence import SilentConnections, file_limit, raise_file_limit


@dataclass(eq=False)
class Connection:
    """One of uvicorn's, as far as it is looked at."""

    cycle: Any = None
    timeout_keep_alive_task: Any = None
    is_closed: bool = False
    transport: Any = field(init=False)

    def __post_init__(self) -> None:
        self.transport = SimpleNamespace(close=self.close)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


def test_those_that_ask_nothing_are_closed_after_a_while(clock: list[float]) -> None:
    silent = SilentConnections(most=10, patience=30, clock=lambda: clock[0])
    answered = SimpleNamespace(response_complete=True)
    early, late = Connection(), Connection()
    asking = Connection(cycle=SimpleNamespace(response_complete=False))
    kept = Connection(cycle=answered, timeout_keep_alive_task=object())
    half_asked_again = Connection(cycle=answered)
    connections = [early, asking, kept, half_asked_again]
    for _ in range(30):
        silent.look(connections)
        clock[0] += 1
    assert not any(each.is_closed for each in connections)
    silent.look([*connections, late])
    assert [each.is_closed for each in (*connections, late)] == [True, False, False, True, False]


def test_who_asks_after_all_begins_anew(clock: list[float]) -> None:
    silent = SilentConnections(most=10, patience=30, clock=lambda: clock[0])
    connection = Connection()
    silent.look([connection])
    clock[0] += 20
    connection.cycle = SimpleNamespace(response_complete=False)
    silent.look([connection])
    connection.cycle.response_complete = True
    clock[0] += 20
    silent.look([connection])
    assert not connection.is_closed


def test_of_too_many_the_oldest_go(clock: list[float]) -> None:
    silent = SilentConnections(most=2, clock=lambda: clock[0])
    old = [Connection() for _ in range(2)]
    silent.look(old)
    clock[0] += 1
    new = [Connection() for _ in range(2)]
    silent.look([*new, *old])
    assert [each.is_closed for each in (*old, *new)] == [True, True, False, False]


def test_as_many_files_as_are_allowed() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] // 2, before[1]))
        assert file_limit() == before[0] // 2
        raise_file_limit()
        assert file_limit() >= before[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
