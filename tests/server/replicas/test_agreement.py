"""Replicas that share nothing but a registry serve the same."""

from __future__ import annotations

import json
import threading
import time
from functools import partial

import httpx

from registry import Registry
from registry.canary.rules import Rules
from registry.local_blobs import LocalBlobs
from tests.server.replicas.processes import Fleet, Process, eventually

AGREE_WITHIN = 2.0  # seconds: what replicas promise, not how fast this machine is


def served(replica: Process, model: str = "sql") -> str:
    """The version that answers."""
    answer = replica.ask(model)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-hatstand-adapter"]


def all_serve(replicas: list[Process], version: str) -> bool:
    return all(served(replica) == version for replica in replicas)


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
            served(replica)
            asked += 1
        evidence = registry.canaries.standing("sql", "prod").evidence
        return evidence.stable.requests > 0 and evidence.target.requests > 0

    eventually("both sides of the canary are counted", all_counted)
    registry.canaries.abort("sql", "prod")
    assert asked >= len(replicas)


def test_a_late_replica_waits_for_its_pin_and_then_agrees(
    registry: Registry, fleet: Fleet, replicas: list[Process]
) -> None:
    """It is started while the pinned adapter's weights cannot be had."""
    moved_before = registry.resolve("sql@prod").ref
    weights = max(registry.resolve("late").manifest.layers, key=lambda layer: layer.size)
    blob = LocalBlobs(registry.folder / "blobs").path(weights.digest)
    aside = blob.rename(blob.with_suffix(".aside"))
    with fleet.replica("late", "--pin=late", "--drain-delay=0") as late:
        eventually("it lives", lambda: late.answers("/healthz"))
        eventually("it has tried", lambda: "late: not loaded yet" not in late.get("/readyz").text)
        not_ready = late.get("/readyz")
        assert not_ready.status_code == 503
        assert "pinned adapter late" in not_ready.text
        aside.rename(blob)
        late.wait_ready()
        assert 'hatstand_adapter_resident{adapter="late@1"' in late.get("/metrics").text
        assert {served(each) for each in (*replicas, late)} == {moved_before}
        drain(late)


def drain(replica: Process) -> None:
    """A stream that runs ends whole, a new request is turned away, the process ends in time."""
    lines: list[str] = []
    body = {"model": "sql", "prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": True}

    def read() -> None:
        url = f"{replica.url}/v1/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            lines.extend(line for line in answer.iter_lines() if line)

    reader = threading.Thread(target=read)
    reader.start()
    eventually("the stream has begun", lambda: len(lines) > 0)
    replica.terminate()
    eventually("it says so", lambda: replica.get("/readyz").status_code == 503)
    refused = replica.ask("sql")
    assert refused.status_code == 503
    assert float(refused.headers["retry-after"]) > 0
    began = time.monotonic()
    assert replica.popen.wait(60) == 0
    assert time.monotonic() - began < 40  # --drain-timeout is 30
    reader.join()
    assert lines[-1] == "data: [DONE]"
    last = json.loads(lines[-2].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "length"
