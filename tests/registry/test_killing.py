"""Processes that push, move aliases and collect are killed at random moments: nothing is lost.

`HATSTAND_KILLS=200` runs the long form.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from registry import BaseRecord, Registry
from registry.collection import collect, explain
from tests.registry.backends import Backend
from tests.registry.making import make_adapter

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("HATSTAND_KILLS", "12"))
EVERY_BACKEND = True

WORK = """
import random, sys
from registry import Registry
from registry.collection import collect
from registry.errors import RegistryError

folder, database, blobs, seed, *adapters = sys.argv[1:]
registry = Registry.open(folder, database=database or None, blobs=blobs or None)
chance = random.Random(int(seed))
print("ready", flush=True)
while True:
    try:
        what = chance.choice(["push", "push", "alias", "rollback", "withdraw", "collect"])
        if what == "push":
            adapter, alias = chance.choice(adapters), chance.choice(["prod", None])
            print("pushed", registry.push(adapter, "sql", alias=alias).digest, flush=True)
        elif what == "alias":
            target = chance.choice(registry.versions("sql"))
            registry.set_alias("sql", chance.choice(["prod", "canary"]), target.ref)
        elif what == "rollback":
            registry.rollback_alias("sql", "prod")
        elif what == "withdraw":
            registry.withdraw(chance.choice(registry.versions("sql")).ref)
        else:
            collect(registry, grace=0)
    except RegistryError as refusal:
        assert refusal.status < 500, refusal
"""


def start(backend: Backend, seed: int, adapters: list[Path]) -> subprocess.Popen[str]:
    places = (str(backend.folder), backend.database or "", backend.blobs or "", str(seed))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WORK, *places, *map(str, adapters)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killing_at_random_loses_nothing(
    backend: Backend, registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    adapters = [make_adapter(tmp_path / f"a{seed}", seed=seed, lock=base) for seed in range(4)]
    chance = random.Random(7)
    for round_ in range(KILLS):
        workers = [start(backend, 2 * round_ + each, adapters) for each in range(2)]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.0, 0.4))
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            _, complaint = worker.communicate()
            assert worker.returncode == -signal.SIGKILL, complaint
        check_whole(registry)
    collect(registry, grace=0)
    check_whole(registry)
    orphans = {
        blob.digest for blob in registry.blobs.list() if explain(registry, blob.digest) != "in use"
    }
    assert orphans == set()


def check_whole(registry: Registry) -> None:
    """Every committed version is sound, no alias points at nothing, the history joins up."""
    assert all(check.is_sound for check in registry.verify())
    if not registry.adapters():
        return
    for alias, version in registry.aliases("sql").items():
        assert registry.resolve(version.ref) == version
        events = registry.alias_history("sql", alias)
        steps = pairwise(events)
        assert all(before.to_number == after.from_number for before, after in steps)
        assert events[-1].to_number == version.number
    numbers = [event.id for event in registry.events()]
    assert numbers == sorted(set(numbers))
