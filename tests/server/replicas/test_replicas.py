"""Replicas that share nothing but a registry: they agree, and are exchanged without a loss.

All in one file, so that its processes are started once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from registry import Registry
from registry.canary.rules import Rules
from tests.server.replicas.processes import Fleet, Process, eventually
from tests.server.replicas.proxy import haproxy
from tests.server.replicas.rolling_update import Updated, update
from tests.support.ports import free_port

DRAIN_TIMEOUT = 30  # seconds, unless a server is told otherwise
AGREE_WITHIN = 60.0  # seconds: two are promised, on a machine that does nothing else


def all_serve(replicas: list[Process], version: str) -> bool:
    return all(replica.version_of("sql") == version for replica in replicas)


def test_an_alias_that_moves_once_moves_everywhere(
    registry: Registry, replicas: list[Process]
) -> None:
    for number in (2, 1, 2):
        registry.set_alias("sql", "prod", f"sql@{number}")
        agree = partial(all_serve, replicas, f"sql@{number}")
        eventually(f"all serve sql@{number}", agree, within=AGREE_WITHIN)


def test_both_report_on_a_canary_with_a_key_that_may_only_read_and_report(
    registry: Registry, replicas: list[Process]
) -> None:
    stable = registry.resolve("sql@prod").number
    rules = Rules(steps=(50,), min_requests=10_000, max_slowdown=None)
    registry.canaries.start("sql", "prod", f"sql@{3 - stable}", rules)
    asked = 0

    def all_counted() -> bool:
        nonlocal asked
        for replica in replicas:
            replica.version_of("sql")
            asked += 1
        evidence = registry.canaries.standing("sql", "prod").evidence
        return evidence.stable.requests > 0 and evidence.target.requests > 0

    eventually("both sides of the canary are counted", all_counted)
    registry.canaries.abort("sql", "prod")
    assert asked >= len(replicas)


@pytest.fixture(scope="module")
def proxy(fleet: Fleet, replicas: list[Process]) -> Iterator[Process]:
    """HAProxy with the documented configuration."""
    with haproxy(f"127.0.0.1:{free_port()}", replicas, fleet.folder / "haproxy.log") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def updated(registry: Registry, fleet: Fleet, replicas: list[Process], proxy: Process) -> Updated:
    """After this, `replicas` are gone: it has their successors."""
    return update(registry, fleet, replicas, proxy)


def test_no_request_is_lost(updated: Updated) -> None:
    assert updated.outcomes == {"whole": updated.outcomes.total()}


def test_readiness_waits_for_what_is_pinned(updated: Updated) -> None:
    assert updated.before_the_pin.status_code == 503
    assert "pinned adapter late" in updated.before_the_pin.text
    resident = 'hatstand_adapter_resident{adapter="late@1"'
    assert resident in updated.replicas[0].get("/metrics").text


def test_who_starts_late_serves_what_all_do(registry: Registry, updated: Updated) -> None:
    served = {replica.version_of("sql") for replica in updated.replicas}
    assert served == {registry.resolve("sql@prod").ref}


def test_a_stream_finishes_while_new_requests_are_turned_away(
    fleet: Fleet, updated: Updated
) -> None:
    leaving = updated.replicas[1]
    lines: list[str] = []
    reader = threading.Thread(target=_read_stream, args=(leaving.url, lines))
    with fleet.bridle.slow():  # or it might be at its end before anybody is turned away
        reader.start()
        eventually("the stream has begun", lambda: len(lines) > 0)
        leaving.terminate()
        eventually("it says so", lambda: leaving.get("/readyz").status_code == 503)
        refused = leaving.ask("sql")
    assert refused.status_code == 503
    assert float(refused.headers["retry-after"]) > 0
    assert leaving.popen.wait(DRAIN_TIMEOUT + 10) == 0
    reader.join()
    assert lines[-1] == "data: [DONE]"
    last = json.loads(lines[-2].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "length"


def _read_stream(url: str, lines: list[str]) -> None:
    body = {"model": "sql", "prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
        lines.extend(line for line in answer.iter_lines() if line)
