"""Clocks that are set forth and back by days while processes work.

Debian's libfaketime shifts what a process takes for the time; its monotonic clock and the times of
files stay, as they do where an administrator or NTP sets a clock.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from registry import Registry
from registry.bases import read_base
from tests.registry.test_killing import check_whole
from tests.support.tiny import TinyAdapter
from tests.support.waiting import eventually
from tests.torture.asking import Outcome
from tests.torture.site import in_loop, make_settings, post, server_process

pytestmark = pytest.mark.slow
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
DAY = 24 * 3600
WORKING = """
import random, sys, time
from registry import Registry
from registry.collection import collect
from registry.errors import RegistryError

folder, seed, *adapters = sys.argv[1:]
registry, chance = Registry.open(folder), random.Random(int(seed))
print(time.time(), flush=True)
for _ in range(40):
    try:
        match chance.choice(["push", "push", "alias", "withdraw", "collect"]):
            case "push":
                registry.push(chance.choice(adapters), "sql", alias="prod")
            case "alias":
                registry.set_alias("sql", "prod", chance.choice(registry.versions("sql")).ref)
            case "withdraw":
                registry.withdraw(chance.choice(registry.versions("sql")).ref)
            case "collect":
                collect(registry)
    except RegistryError as refusal:
        if refusal.status >= 500:
            raise
"""


@dataclass(frozen=True)
class Clock:
    """What processes started in `environment` take for the time."""

    file: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds until it looks at the file again
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, seconds: float) -> None:
        """Set the clock so far from the true time."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.replace(self.file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if not LIBRARY.exists() and not os.environ.get("HATSTAND_REQUIRE_TOOLS"):
        pytest.skip("libfaketime is not installed: Debian's package faketime has it")
    clock = Clock(tmp_path / "clock")
    clock.jump(0)
    return clock


def test_a_registry_outlives_them(clock: Clock, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, [])
    registry, base = Registry.open(Path(settings.registry)), Path(settings.base)
    adapters = [TinyAdapter("x", seed=n).write(base, tmp_path / f"{n}") for n in range(3)]
    registry.push(adapters[0], "sql", alias="prod", base=read_base(base))
    clock.jump(3 * DAY)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKING, settings.registry, str(seed), *adapters],
            env={**os.environ, **clock.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        ahead = float(worker.stdout.readline()) - time.time()
        assert ahead == pytest.approx(3 * DAY, abs=60), "the clock was not shifted"
    chance = random.Random(1)
    while any(worker.poll() is None for worker in workers):
        clock.jump(chance.choice([-30, -2, 0, 2, 30]) * DAY)
        time.sleep(0.5)
    complaints = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], complaints
    check_whole(registry)


def test_a_server_outlives_them(clock: Clock, tmp_path: Path) -> None:
    names = ["a", "b"]
    settings = make_settings(tmp_path, names)
    registry, base = Registry.open(Path(settings.registry)), Path(settings.base)
    outcomes: list[Outcome] = []
    with server_process(settings, clock.environment) as (url, _):
        asking = threading.Thread(
            target=lambda: outcomes.extend(in_loop(url, [*names, "tiny"] * 8, 60))
        )
        asking.start()
        for jump in (2, -30, 30, 0):
            clock.jump(jump * DAY)
            eventually(partial(is_set, url, jump * DAY), "the clock is set")
            assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
        asking.join()
        folder = TinyAdapter("a", seed=5).write(base, tmp_path / "next")
        registry.push(folder, "a", base=read_base(base))
        served = "x-hatstand-adapter"
        eventually(lambda: post(url, "a").headers[served] == "a@2", "what was pushed is served")
    assert Counter(each.end for each in outcomes) == {"done": 24}


def is_set(url: str, ahead: float) -> bool:
    return abs(ahead_of_us(url) - ahead) < 60


def ahead_of_us(url: str) -> float:
    """By so many seconds."""
    return float(post(url, "a").json()["created"]) - time.time()
