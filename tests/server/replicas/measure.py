"""What the one socket of `--replicas` costs: `python -m tests.server.replicas.measure`.

The engine that computes nothing of tests.server.api.measure, once behind its own socket and once
behind the one that hands connections over. Printed for each: tokens a second that arrived, their
age when read, processor time a token of the process that serves, and a request of the one in front.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from server.api.draining import DrainingServer
from server.api.listener import bind
from server.api.readiness import Readiness
from server.replicas import serve_replicas
from server.settings import ApiSettings, EngineOptions, Settings
from tests.server.api.fakes import make_site
from tests.server.api.measure import PacedEngine, client

RATE = float(os.environ.get("RATE", "8000"))  # tokens a second, in all
STREAMS = 64
INSIDE = "server.supervision.inside"
TICK = os.sysconf("SC_CLK_TCK")


def assemble(
    settings: Settings,  # noqa: ARG001
    _report: Callable[[str, int, int], None],
    announce: Callable[[], None],
) -> DrainingServer:
    """A server of the paced engine."""
    logging.getLogger().setLevel(logging.WARNING)
    engine = PacedEngine(STREAMS / RATE)
    app = make_site(ApiSettings(), engine).app
    return DrainingServer(app, Readiness(engine, ()), drain_timeout=1, announce=announce)


def serve(port: int, is_direct: bool) -> None:
    """Runs in a process of its own."""
    settings = Settings(base="paced", replicas=1, engine=EngineOptions(device="cpu"))
    listener = bind("127.0.0.1", port)
    if is_direct:
        with closing(listener):
            assemble(settings, lambda *_: None, lambda: None).run(sockets=[listener])
    else:
        from tests.server.replicas import measure as itself  # the name that other processes know

        serve_replicas(settings, listener, itself.assemble, lambda: None)


def measure(name: str, *, is_direct: bool, seconds: float) -> None:
    with closing(bind("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    server = spawn.Process(target=serve, args=(port, is_direct))
    server.start()
    assert server.pid is not None
    time.sleep(20)  # both have imported what they need
    results: multiprocessing.Queue[Any] = spawn.Queue()
    before = used(server.pid)
    tokens = int(seconds * RATE / STREAMS)
    asking = spawn.Process(target=client, args=(port, STREAMS, tokens, results))
    asking.start()
    count, taken, ages = results.get()
    front, *serving = (now - then for now, then in zip(used(server.pid), before, strict=True))
    server.terminate()
    server.join()
    ages.sort()
    a_token = 1e6 * (sum(serving) if serving else front) / count
    line = f"{name:12} {count / taken:8,.0f} tok/s, age p50 {1e3 * ages[len(ages) // 2]:5.1f} ms, "
    line += f"p99 {1e3 * ages[len(ages) * 99 // 100]:5.1f} ms, {a_token:5.1f} µs a token"
    print(line + (f", {1e3 * front / STREAMS:.2f} ms a request in front" if serving else ""))


def used(pid: int) -> list[float]:
    """Processor seconds of a process, then of its children that serve."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    serving = [
        n for n in children if "server.supervision.inside" in Path(f"/proc/{n}/cmdline").read_text()
    ]
    return [_seconds(n) for n in (str(pid), *serving)]


def _seconds(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=8)
    asked = options.parse_args()
    measure("own socket", is_direct=True, seconds=asked.seconds)
    measure("handed over", is_direct=False, seconds=asked.seconds)
