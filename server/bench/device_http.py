"""The engine behind the real HTTP layer, on loopback, asked by another process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry.canary.record import Route
from registry.canary.reports import Report
from registry.hats import Hat
from registry.lock import Lock
from registry.manifest import Descriptor, Manifest
from registry.references import Reference
from registry.snapshot import Snapshot
from registry.versions import Version
from server.api.app import create_app
from server.api.draining import DrainingServer
from server.api.listener import bind
from server.api.readiness import Readiness
from server.bases import Base
from server.bench import http_client
from server.bench.device_cases import ROUNDS, DeviceCases
from server.bench.device_report import RATE, Figure
from server.bench.step_times import StepTimes, percentile, timed_steps
from server.bench.workload import PROMPT_TOKENS, RANK
from server.engine.build import start_worker
from server.engine.engine import Engine
from server.interpreter import settle_interpreter

DRAIN = 10.0  # seconds
MS = 1e3
Address = tuple[str, int]


@dataclass(frozen=True)
class _Named:
    name: str


class Unheard:
    """No canary runs here, so nothing is reported."""

    def report(self, name: str, alias: str, report: Report) -> None:
        """Drop it."""


@dataclass(frozen=True)
class NamesRegistry:
    """Any name is an adapter with one version, whose digest is the name."""

    base: Base

    def resolve(self, reference: Reference) -> Version:
        return Version(
            name=reference.name,
            number=1,
            digest=reference.name,
            created_at=datetime.now(UTC),
            created_by="bench",
            manifest=Manifest(Descriptor("", "", 0), ()),
            size=0,
            base_fingerprint=self.base.record.fingerprint,
        )

    @property
    def canaries(self) -> Unheard:
        return Unheard()

    def route(self, reference: Reference) -> Route:
        return Route(self.resolve(reference))

    def snapshot(self, name: str) -> Snapshot:
        return Snapshot(newest=self.resolve(Reference(name)), aliases={})

    def hat(self, version: Version) -> Hat:  # noqa: ARG002
        return Hat()

    def lock(self, version: Version) -> Lock:  # noqa: ARG002
        record = self.base.record
        return Lock(base=record, adapter_dtype="bfloat16", rank=RANK, target_modules=())

    def adapters(self) -> Sequence[_Named]:
        return ()

    def aliases(self, name: str) -> Mapping[str, Version]:  # noqa: ARG002
        return {}

    def lease(self, digest: str, holder: str, seconds: float) -> None:
        """Nothing here can be collected."""


def http_figures(cases: DeviceCases, base: Base) -> list[Figure]:
    """The work's served case, by the engine alone and over HTTP. The engine ends."""
    case, counts = cases.work.served, cases.work.served_tokens
    cases.make_resident(case.adapters)
    with timed_steps(cases.engine, case.streams) as by_hand:
        alone = [min(cases.seconds(case, count) for _ in range(ROUNDS)) for count in counts]
    with timed_steps(cases.engine, case.streams) as by_server:
        served = over_http(cases, base, counts, rounds=ROUNDS)
    short, long = counts
    tokens = case.streams * (long - short)
    rates = [tokens / (seconds[1] - seconds[0]) for seconds in (alone, served)]
    return [
        Figure("engine alone", rates[0], RATE),
        Figure("over HTTP", rates[1], RATE),
        Figure("HTTP, of the engine alone", 100 * rates[1] / rates[0], "%"),
        Figure(f"HTTP, all of {short} tokens, engine alone", MS * alone[0], "ms"),
        Figure(f"HTTP, all of {short} tokens", MS * served[0], "ms"),
        *_host_figures("engine alone", by_hand),
        *_host_figures("over HTTP", by_server),
    ]


def _host_figures(name: str, times: StepTimes) -> list[Figure]:
    """What a step took the host, and whether the device was ever done before it."""
    shares = (0.5, 0.99)
    return [
        *(
            Figure(f"host p{100 * p:.0f}, {name}", MS * percentile(times.host, p), "ms")
            for p in shares
        ),
        Figure(f"launch p50, {name}", MS * percentile(times.launching, 0.5), "ms"),
        Figure(f"steps that the host came late for, {name}", 100 * times.late, "%"),
    ]


def over_http(cases: DeviceCases, base: Base, counts: Sequence[int], *, rounds: int) -> list[float]:
    """Seconds of the work's served case over HTTP, for each of the counts of generated tokens.

    The best of some rounds. The engine ends with the server.
    """
    with serving_engine(cases.engine, base) as address:
        _ask(address, _bodies(cases, 1))
        return [
            min(_ask(address, _bodies(cases, count)) for _ in range(rounds)) for count in counts
        ]


@contextmanager
def serving_engine(engine: Engine, base: Base) -> Iterator[Address]:
    """The app behind uvicorn in a thread of its own; any name is an adapter. Ends the engine."""
    listener = bind("127.0.0.1", 0)
    with closing(listener):
        worker = start_worker(engine)
        readiness = Readiness(worker, ())
        app = create_app(worker, NamesRegistry(base), base, readiness=readiness)
        server = DrainingServer(app, readiness, drain_timeout=DRAIN)
        settle_interpreter()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.begin_drain()
            thread.join()


def _bodies(cases: DeviceCases, count: int) -> list[dict[str, Any]]:
    case = cases.work.served
    return [
        {
            "model": cases.name_of(case, stream),
            "prompt": cases.prompt(PROMPT_TOKENS),
            "max_tokens": count,
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for stream in range(case.streams)
    ]


def _ask(address: Address, bodies: Sequence[Mapping[str, Any]]) -> float:
    """Seconds, as the client sees them. RuntimeError if it did not get every token."""
    program = [sys.executable, str(Path(http_client.__file__)), *map(str, address)]
    done = subprocess.run(program, input=json.dumps(bodies), text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"the bench's client failed: {done.stderr}")
    told = json.loads(done.stdout)
    if told["tokens"] != sum(body["max_tokens"] for body in bodies):
        raise RuntimeError(f"only {told['tokens']} tokens came over HTTP")
    return float(told["seconds"])
