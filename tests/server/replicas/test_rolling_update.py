"""Two replicas behind HAProxy are exchanged, one after the other, while requests come."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.replicas.processes import ROOT, Fleet, Process, eventually, free_port, process

CONFIG = ROOT / "docs" / "haproxy.cfg"
CALLERS = 3
AT_LEAST = 1000  # requests


@pytest.fixture
def proxy(fleet: Fleet, replicas: list[Process]) -> Iterator[Process]:
    """HAProxy with the documented configuration."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
            pytest.fail("haproxy is not installed: run .ci/tools")
        pytest.skip("haproxy is not installed: run .ci/tools")
    one, two = (urlsplit(each.url).netloc for each in replicas)
    bind = f"127.0.0.1:{free_port()}"
    environ = {"HATSTAND_BIND": bind, "REPLICA_ONE": one, "REPLICA_TWO": two}
    log = fleet.folder / "haproxy.log"
    with process([program, "-f", str(CONFIG)], f"http://{bind}", log, environ) as proxy:
        proxy.wait_ready()
        yield proxy


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


def exchange(old: Process, start: Callable[[int], Process]) -> Process:
    """Stop one replica as a supervisor does, and bring the next to the same port."""
    port = urlsplit(old.url).port
    assert port is not None
    old.terminate()
    assert old.popen.wait(60) == 0
    new = start(port)
    new.wait_ready()
    return new


def test_no_request_is_lost(fleet: Fleet, replicas: list[Process], proxy: Process) -> None:
    load = Load(proxy.url)
    with ExitStack() as running:

        def start(port: int) -> Process:
            return running.enter_context(fleet.replica(f"new-{port}", port=port))

        with load.running():
            for index, old in enumerate(list(replicas)):
                new = replicas[index] = exchange(old, start)
                eventually("HAProxy uses it", partial(_has_generated, new))
            eventually("enough was asked", lambda: load.outcomes.total() >= AT_LEAST)
        assert load.outcomes == {"whole": load.outcomes.total()}


def _has_generated(replica: Process) -> bool:
    """Whether a request got as far as the replica's engine."""
    return "hatstand_generated_tokens_total 0.0" not in replica.get("/metrics").text
