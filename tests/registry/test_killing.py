"""Processes that push, move aliases and collect are killed at random moments: nothing is lost.

`HATSTAND_KILLS=1000` runs the long form: so many on each kind of catalog and store.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from registry import BaseRecord, Registry
from registry.collection import collect, explain
from registry.errors import RegistryError
from tests.registry.backends import Backend
from tests.registry.making import make_adapter

KILLS = int(os.environ.get("HATSTAND_KILLS", "24"))
EVERY_BACKEND = True


def work(
    ready: Connection,
    environment: dict[str, str],
    backend: Backend,
    seed: int,
    adapters: list[Path],
) -> None:
    """Push, move aliases, withdraw and collect at random, for ever."""
    os.environ.update(environment)
    registry = backend.open()
    chance = random.Random(seed)
    ready.send("ready")
    while True:
        what = chance.choice(["push", "push", "alias", "rollback", "withdraw", "collect"])
        try:
            if what == "push":
                alias = chance.choice(["prod", None])
                registry.push(chance.choice(adapters), "sql", alias=alias)
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
            if refusal.status >= 500:
                raise


def start(backend: Backend, seed: int, adapters: list[Path]) -> BaseProcess:
    """A worker that is at work, forked from a process that has imported the registry already."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    ready, theirs = processes.Pipe(duplex=False)
    told = (theirs, dict(os.environ), backend, seed, adapters)
    worker = processes.Process(target=work, args=told, daemon=True)
    worker.start()
    theirs.close()
    assert ready.recv() == "ready"
    return worker


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killing_at_random_loses_nothing(
    backend: Backend, registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    adapters = [make_adapter(tmp_path / f"a{seed}", seed=seed, lock=base) for seed in range(4)]
    chance = random.Random(7)
    for seed in range(0, KILLS, 2):
        workers = [start(backend, seed + each, adapters) for each in range(2)]
        time.sleep(chance.uniform(0.0, 0.4))
        for worker in workers:
            worker.kill()
            worker.join()
            assert worker.exitcode == -signal.SIGKILL, "it ended by itself: see above"
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
