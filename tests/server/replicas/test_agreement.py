"""Replicas that share nothing but a registry serve the same."""

from __future__ import annotations

from functools import partial

from registry import Registry
from registry.canary.rules import Rules
from tests.server.replicas.processes import Process, eventually

AGREE_WITHIN = 2.0  # seconds: what replicas promise, not how fast this machine is


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
