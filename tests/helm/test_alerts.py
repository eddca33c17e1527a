"""The alerts as Prometheus itself evaluates them: when they fire, and that they are silent else."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .chart import find, overlay, render, tool

HERE = 'namespace="hats",service="demo-hatstand",pod="a"'
VALUES = overlay({"prometheusRule": {"enabled": True, "firstTokenSeconds": 5}})


@dataclass(frozen=True)
class Case:
    """Series once a minute, in promtool's notation; who fires an hour later, and who does not."""

    alert: str
    bad: dict[str, str]
    good: dict[str, str]


def requests(bad: int, good: int) -> dict[str, str]:
    """So many more of each a minute."""
    return {
        f'hatstand_requests_total{{{HERE},status="500"}}': f"0+{bad}x60",
        f'hatstand_requests_total{{{HERE},status="200"}}': f"0+{good}x60",
    }


def first_tokens(late: int, early: int) -> dict[str, str]:
    name = "hatstand_time_to_first_token_seconds_bucket"
    counts = {"1": early, "10": early + late, "+Inf": early + late}
    return {f'{name}{{{HERE},le="{le}"}}': f"0+{count}x60" for le, count in counts.items()}


def evictions(count: int) -> dict[str, str]:
    return {
        f"hatstand_adapter_evictions_total{{{HERE}}}": f"0+{count}x60",
        f"hatstand_sequences_finished_total{{{HERE}}}": "0+100x60",
    }


def waiting(count: int) -> dict[str, str]:
    return {
        f"hatstand_sequences_waiting{{{HERE}}}": f"{count}x60",
        f"hatstand_queue_limit{{{HERE}}}": "100x60",
    }


def canary(errors: int) -> dict[str, str]:
    labels = f'{HERE},arm="canary",alias="prod",version="sql@7"'
    return {
        f"hatstand_canary_errors{{{labels}}}": f"{errors}x60",
        f"hatstand_canary_requests{{{labels}}}": "100x60",
    }


CASES = [
    Case("HatstandDown", {f"up{{{HERE}}}": "0x60"}, {f"up{{{HERE}}}": "1x60"}),
    Case("HatstandFails", requests(6, 94), requests(4, 96)),
    Case("HatstandQueueIsFull", waiting(91), waiting(89)),
    Case("HatstandFirstTokenIsLate", first_tokens(10, 90), first_tokens(1, 99)),
    Case("HatstandAdaptersCrowd", evictions(21), evictions(19)),
    Case(
        "HatstandRegistryIsLost",
        {f"hatstand_registry_connected{{{HERE}}}": "0x60"},
        {f"hatstand_registry_connected{{{HERE}}}": "1x60"},
    ),
    Case("HatstandCanaryFails", canary(6), canary(5)),
]


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart's groups as a rule file; JSON is YAML too."""
    spec = find(render(VALUES), "PrometheusRule")["spec"]
    file = tmp_path_factory.mktemp("alerts") / "rules.yaml"
    file.write_text(json.dumps(spec))
    return file


def promtool(*arguments: str) -> None:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried(rules: Path) -> None:
    promtool("check", "rules", str(rules))
    alerts = [each["alert"] for each in json.loads(rules.read_text())["groups"][0]["rules"]]
    assert sorted(alerts) == sorted(case.alert for case in CASES)


def test_alerts_fire_when_they_should_and_not_before(rules: Path) -> None:
    tests = [trial(case, is_bad=is_bad) for case in CASES for is_bad in (True, False)]
    file = rules.with_name("tests.yaml")
    file.write_text(json.dumps({"rule_files": [str(rules)], "tests": tests}))
    promtool("test", "rules", str(file))


def trial(case: Case, *, is_bad: bool) -> dict[str, Any]:
    """One run of promtool's: these series, and the alert exactly once or not at all."""
    series = case.bad if is_bad else case.good
    firing = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
    expected = {"labels": "{}", "value": int(is_bad)}
    return {
        "name": f"{case.alert}, {'bad' if is_bad else 'good'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"count({firing}) or vector(0)",
                "eval_time": "59m",
                "exp_samples": [expected],
            }
        ],
    }
