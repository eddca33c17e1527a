from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest

from registry.canary.record import Split

SESSIONS = [f"user-{number}" for number in range(4000)]


def split(weight: int, canary: int = 7) -> Split:
    target: Any = None
    return Split(canary, "prod", 0, weight, target)


@pytest.mark.parametrize("weight", [1, 10, 25, 50])
def test_the_share_is_the_weight(weight: int) -> None:
    taken = sum(split(weight).takes(session) for session in SESSIONS)
    share = weight / 100
    spread = 4 * math.sqrt(len(SESSIONS) * share * (1 - share))
    assert abs(taken - share * len(SESSIONS)) < spread


def test_who_was_taken_stays_taken() -> None:
    taken: set[str] = set()
    for weight in (1, 10, 25, 50, 100):
        now = {session for session in SESSIONS if split(weight).takes(session)}
        assert taken <= now
        taken = now
    assert taken == set(SESSIONS)


def test_other_canaries_take_other_users() -> None:
    first, second = ({s for s in SESSIONS if split(10, each).takes(s)} for each in (1, 2))
    assert len(first & second) < 0.3 * len(first)


def test_every_process_agrees() -> None:
    code = (
        "from registry.canary.record import Split;"
        "print([Split(7, 'prod', 0, 30, None).takes(f'user-{n}') for n in range(50)])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert answer.strip() == str([split(30).takes(session) for session in SESSIONS[:50]])


def test_without_a_session_each_request_is_a_chance() -> None:
    taken = sum(split(30).takes("") for _ in range(2000))
    assert 480 < taken < 720  # 6 standard deviations
