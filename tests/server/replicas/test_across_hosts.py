"""Two replicas, a registry, its stores and HAProxy, each on a machine of its own.

Machines are network namespaces, so this needs root. `-s` prints what was seen:
`HATSTAND_ROLLING_REQUESTS=2000 pytest -s tests/server/replicas/test_across_hosts.py`.
All in one file, so that its processes are started once; tests go on where the one before ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from registry import Registry
from registry.bases import read_base
from registry.keys import Keys
from tests.server.replicas.nodes import Node, can_make_nodes, network
from tests.server.replicas.processes import Fleet, Process, eventually, registry_process
from tests.server.replicas.proxy import haproxy
from tests.server.replicas.rolling_update import Load, exchange, has_generated
from tests.server.replicas.stores import stores
from tests.support.bridle import Bridle
from tests.support.tiny import TinyAdapter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_make_nodes(), reason="network namespaces need root and iproute2"),
]
PORT = 8000
AGREE_WITHIN = 60.0  # seconds: two are promised, on a machine that does nothing else
NOTICED_WITHIN = 60.0  # seconds until a registry that is silently gone is missed, 40 if idle
AT_LEAST = int(os.environ.get("HATSTAND_ROLLING_REQUESTS", "300"))


@dataclass
class Cluster:
    """What runs, and where."""

    registry: Registry  # straight to the stores, not over the registry's own node
    registry_node: Node
    fleet: Fleet
    nodes: list[Node]  # of the replicas
    replicas: list[Process]
    proxy: Process

    def all_serve(self, version: str) -> bool:
        return all(replica.version_of("sql") == version for replica in self.replicas)

    def are_connected(self, *, to_the_registry: bool) -> bool:
        line = f"hatstand_registry_connected {float(to_the_registry)}"
        return all(line in replica.get("/metrics").text for replica in self.replicas)


@pytest.fixture(scope="module")
def cluster(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hosts")
    with network() as wires, ExitStack() as running, pytest.MonkeyPatch.context() as patch:
        names = ("store", "registry", "one", "two", "proxy")
        store, at_registry, one, two, before = (wires.node(name) for name in names)
        kept = running.enter_context(stores(store, folder))
        for name, value in kept.environ.items():
            patch.setenv(name, value)
        registry = Registry.open(folder / "registry", database=kept.database, blobs=kept.blobs)
        token = _fill(registry, base, folder)
        log = folder / "registry.log"
        served = running.enter_context(
            registry_process(folder / "served", log, node=at_registry, environ=kept.environ)
        )
        bridle = Bridle.put_on(folder / "bridle")
        fleet = Fleet(base, served.url, token, folder, running, bridle)
        nodes = [one, two]
        replicas = [fleet.start(node.name, port=PORT, node=node) for node in nodes]
        for replica in replicas:
            replica.wait_ready()
        proxy = running.enter_context(
            haproxy(f"{before.address}:{PORT}", replicas, folder / "haproxy.log", before)
        )
        yield Cluster(registry, at_registry, fleet, nodes, replicas, proxy)
        registry.close()


def _fill(registry: Registry, base: Path, folder: Path) -> str:
    """Two versions of `sql`, the first of which is served; a key that may read and report."""
    for seed in (0, 1):
        adapter = TinyAdapter("sql", seed=seed).write(base, folder / f"sql-{seed}")
        registry.push(adapter, "sql", base=read_base(base))
    registry.set_alias("sql", "prod", "sql@1")
    _, token = Keys(registry.catalog).create("replicas", ["read", "report"])
    return token


def seconds_until(what: str, is_so: Callable[[], bool], within: float) -> float:
    began = time.monotonic()
    eventually(what, is_so, within=within)
    seconds = time.monotonic() - began
    print(f"{what}: after {seconds:.2f} s")
    return seconds


def test_an_alias_that_moves_once_moves_everywhere(cluster: Cluster) -> None:
    assert cluster.all_serve("sql@1")
    cluster.registry.set_alias("sql", "prod", "sql@2")
    seconds_until("both serve sql@2", lambda: cluster.all_serve("sql@2"), AGREE_WITHIN)


def test_replicas_go_on_without_their_registry_and_catch_up(cluster: Cluster) -> None:
    with cluster.registry_node.unplugged():
        seconds_until(
            "both miss the registry",
            lambda: cluster.are_connected(to_the_registry=False),
            NOTICED_WITHIN,
        )
        cluster.registry.set_alias("sql", "prod", "sql@1")
        # What they know, and at once: nobody waits for a registry that does not even refuse.
        seconds_until("both serve sql@2", lambda: cluster.all_serve("sql@2"), AGREE_WITHIN)
        assert cluster.proxy.get("/readyz").status_code == 200
    seconds_until("both serve what was moved meanwhile", lambda: cluster.all_serve("sql@1"), 60)
    eventually("both follow it again", lambda: cluster.are_connected(to_the_registry=True))
    cluster.registry.set_alias("sql", "prod", "sql@2")
    seconds_until("both serve sql@2 again", lambda: cluster.all_serve("sql@2"), AGREE_WITHIN)


def test_an_update_loses_no_request(cluster: Cluster) -> None:
    load = Load(cluster.proxy.url)
    began = time.monotonic()
    with load.running():
        for number, node in enumerate(cluster.nodes):
            successor = exchange(cluster.fleet, cluster.replicas[number], node=node)
            cluster.replicas[number] = successor
            successor.wait_ready()
            eventually("HAProxy uses it", partial(has_generated, successor))
        eventually("enough was asked", lambda: load.outcomes.total() >= AT_LEAST)
    print(f"an update of both: {dict(load.outcomes)} in {time.monotonic() - began:.0f} s")
    assert load.outcomes == {"whole": load.outcomes.total()}
    assert cluster.all_serve("sql@2")
