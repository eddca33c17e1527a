"""Replicas exchanged one after the other while requests come, as a supervisor would."""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from registry import Registry
from registry.local_blobs import LocalBlobs
from tests.server.replicas.nodes import Node
from tests.server.replicas.processes import Fleet, Process, eventually

CALLERS = 3
AT_LEAST = int(os.environ.get("HATSTAND_ROLLING_REQUESTS", "1000"))


@dataclass
class Load:
    """Callers that ask without pause, every other time for a stream, and what they were told."""

    url: str
    outcomes: Counter[str] = field(default_factory=Counter)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[None]:
        callers = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            yield
        finally:
            self._stopping.set()
            for caller in callers:
                caller.join()

    def _call(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            for turn in itertools.count():
                if self._stopping.is_set():
                    return
                outcome = _outcome(client, is_stream=turn % 2 == 0)
                with self._lock:
                    self.outcomes[outcome] += 1


def _outcome(client: httpx.Client, *, is_stream: bool) -> str:
    """ "whole", or what was missing."""
    body = {"model": "sql", "prompt": "x", "max_tokens": 8, "ignore_eos": True, "stream": is_stream}
    try:
        answer = client.post("/v1/completions", json=body)
    except httpx.HTTPError as failure:
        return repr(failure)
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:200]}"
    is_whole = answer.text.endswith("data: [DONE]\n\n") if is_stream else "length" in answer.text
    return "whole" if is_whole else f"cut short: {answer.text[-200:]}"


@dataclass(frozen=True)
class Updated:
    """What was seen of an update, and the replicas after it."""

    outcomes: Counter[str]
    before_the_pin: httpx.Response  # /readyz while a pinned adapter was missing
    replicas: list[Process]


def update(registry: Registry, fleet: Fleet, replicas: list[Process], proxy: Process) -> Updated:
    """Exchange both replicas under load; at first a pinned adapter cannot be had."""
    load = Load(proxy.url)
    with load.running():
        with hidden_weights(registry, "late"):
            first = exchange(fleet, replicas[0], "--pin=late")
            eventually("it lives", lambda: first.answers("/healthz"))
            eventually("it has tried", lambda: "not loaded yet" not in first.get("/readyz").text)
            before_the_pin = first.get("/readyz")
        first.wait_ready()
        eventually("HAProxy uses it", lambda: has_generated(first))
        second = exchange(fleet, replicas[1], "--drain-delay=0")
        second.wait_ready()
        eventually("HAProxy uses it", lambda: has_generated(second))
        eventually("enough was asked", lambda: load.outcomes.total() >= AT_LEAST)
    return Updated(load.outcomes, before_the_pin, [first, second])


def exchange(fleet: Fleet, old: Process, *options: str, node: Node | None = None) -> Process:
    """Stop one replica as a supervisor does, and start the next at the same address."""
    address = urlsplit(old.url)
    old.terminate()
    assert old.popen.wait(60) == 0
    name = f"new-{address.hostname}-{address.port}"
    return fleet.start(name, *options, port=address.port, node=node)


@contextmanager
def hidden_weights(registry: Registry, name: str) -> Iterator[None]:
    """An adapter whose weights cannot be had, though the registry knows it."""
    weights = max(registry.resolve(name).manifest.layers, key=lambda layer: layer.size)
    blob = LocalBlobs(registry.folder / "blobs").path(weights.digest)
    aside = blob.rename(blob.with_suffix(".aside"))
    try:
        yield
    finally:
        aside.rename(blob)


def has_generated(replica: Process) -> bool:
    """Whether a request got as far as the replica's engine."""
    return "hatstand_generated_tokens_total 0.0" not in replica.get("/metrics").text
