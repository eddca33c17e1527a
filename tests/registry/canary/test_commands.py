from __future__ import annotations

from pathlib import Path

import pytest

from registry import BaseRecord, Registry
from registry.canary.outcomes import Latencies, Outcomes
from registry.canary.reports import Report
from registry.homes import default_registry
from tests.registry.making import make_adapter
from tests.registry.test_cli import run, run_json


@pytest.fixture
def registry(base: BaseRecord, tmp_path: Path) -> Registry:
    """Two versions of `sql` in the default registry; `prod` points at the first."""
    registry = Registry.open(default_registry())
    for seed in range(2):
        registry.push(make_adapter(tmp_path / "a", seed=seed, lock=base), "sql")
    registry.set_alias("sql", "prod", "sql@1")
    return registry


def test_from_the_start_to_the_alias(registry: Registry) -> None:
    begin = ("canary", "start", "sql", "prod", "2", "--steps", "10%,50", "--min-requests", 20)
    rules = ("--metric", "exact_match>=0.9", "--max-ttft-p95", 2, "--expected", 1, "--by", "ann")
    assert "sql@prod  10% → sql@2" in run(*begin, *rules, "--why", "better?")
    assert "already" in run(*begin, code=1)
    listed = run("canary", "list")
    assert "sql@prod" in listed
    assert "1 of 2" in listed

    running = registry.canaries.standing("sql", "prod").canary
    outcomes = Outcomes(7, 0, Latencies().plus(0.5))
    registry.canaries.report("sql", "prod", Report(running.id, 0, "s", target=outcomes))
    status = run("canary", "status", "sql", "prod")
    assert f"etag {running.etag}; begun by ann: better?" in status
    assert "7 requests, 0 failed, p95 first token 0." in status
    assert "step 1 of 10% → 50%" in status
    assert "wait: 7 of 20 requests" in status
    values = run_json("canary", "status", "sql", "prod")
    assert values["judgement"]["action"] == "wait"
    assert values["rules"]["metrics"] == ["exact_match>=0.9"]

    wrong = run("canary", "advance", "sql", "prod", "--expected", "0.0.running", code=1)
    assert "decide again" in wrong
    moved = run("canary", "advance", "sql", "prod", "--expected", running.etag)
    assert "50% → sql@2" in moved
    assert "promoted: all → sql@2" in run("canary", "advance", "sql", "prod", "--why", "enough")
    assert "enough" in run("canary", "status", "sql", "prod")
    assert run_json("canary", "list") == []
    history = run("alias", "history", "sql", "prod")
    assert history.index("canary.start") < history.index("canary.promote")
    assert "50%" in history
    assert "sql@1" in run("alias", "rollback", "sql", "prod")


def test_taking_it_back(registry: Registry) -> None:
    run("canary", "start", "sql", "prod", "2", "--manual")
    assert run_json("canary", "list")[0]["rules"]["is_automatic"] is False
    assert "aborted: all → sql@1" in run("canary", "abort", "sql", "prod", "--why", "no")
    assert registry.resolve("sql").number == 1
    assert "no canary runs" in run("canary", "abort", "sql", "prod", code=1)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--steps", "ten"), 2, "10,25,50,100"),
        (("--steps", "50,10"), 1, "rules: steps: must rise"),
        (("--metric", "exact_match"), 1, "exact_match>=0.9"),
        (("--max-slowdown", "0.5"), 1, "max_slowdown"),
        (("--expected", "2"), 1, "points at sql@1"),
    ],
)
def test_options_that_make_no_sense(options: tuple[str, ...], code: int, word: str) -> None:
    assert word in run("canary", "start", "sql", "prod", "2", *options, code=code)
