from __future__ import annotations

from dataclasses import replace

import pytest

from registry.canary.judging import Evidence, judge
from registry.canary.outcomes import Latencies, Outcomes
from registry.canary.rules import Rules
from registry.errors import InvalidRequest

RULES = Rules(steps=(10, 100), step_seconds=60, bake_seconds=300, min_requests=20)


def answered(requests: int, errors: int = 0, *, ttft: float = 0.1, token: float = 0.01) -> Outcomes:
    times = (Latencies().plus(ttft), Latencies().plus(token))
    counts = [tuple(requests * count for count in each.counts) for each in times]
    return Outcomes(requests, errors, Latencies(counts[0]), Latencies(counts[1]))


def seen(target: Outcomes, *, seconds: float = 60, **more: object) -> Evidence:
    return replace(Evidence(seconds, answered(200), target, {}), **more)


@pytest.mark.parametrize(
    ("step", "evidence", "action", "why"),
    [
        (0, seen(answered(20)), "advance", "20 requests, 0 failed, p95 first token 0.1"),
        (0, seen(answered(19)), "wait", "19 of 20 requests"),
        (0, seen(answered(20), seconds=50), "wait", "another 10 s"),
        (1, seen(answered(20)), "wait", "another 240 s"),
        (1, seen(answered(20), seconds=300), "promote", "20 requests"),
        (0, seen(answered(1, 1)), "wait", "1 of 20"),  # one of twenty may fail
        (0, seen(answered(2, 2)), "abort", "2 of 2 requests failed, over 5.0%"),
        (0, seen(answered(40, 2)), "advance", "2 failed"),
        (0, seen(answered(40, 3), seconds=0), "abort", "3 of 40"),
        (0, seen(Outcomes(), refusal="no room"), "abort", "cannot serve it: no room"),
    ],
)
def test_the_schedule_and_errors(step: int, evidence: Evidence, action: str, why: str) -> None:
    judgement = judge(RULES, step, evidence)
    assert judgement.action == action
    assert why in judgement.why


@pytest.mark.parametrize(
    ("rules", "target", "action", "why"),
    [
        ({"max_ttft_p95": 0.2}, answered(20), "advance", ""),
        ({"max_ttft_p95": 0.2}, answered(20, ttft=0.5), "abort", "p95 first token is"),
        ({"max_ttft_p95": 0.2}, answered(19, ttft=0.5), "wait", "19 of 20"),
        ({"max_inter_token_p95": 0.02}, answered(20, token=0.05), "abort", "p95 per token is"),
        ({"max_slowdown": 2}, answered(20, ttft=0.15), "advance", ""),
        ({"max_slowdown": 2}, answered(20, ttft=0.5), "abort", "times the other version's"),
        ({"max_error_rate": None}, answered(20, 20), "advance", "20 failed"),
        ({"is_automatic": False}, answered(20), "wait", "advance it by hand"),
        ({"is_automatic": False}, answered(20, 9), "abort", "9 of 20"),
    ],
)
def test_each_rule(rules: dict[str, object], target: Outcomes, action: str, why: str) -> None:
    judgement = judge(RULES.model_copy(update=rules), 0, seen(target))
    assert judgement.action == action
    assert why in judgement.why


def test_a_slowdown_needs_somebody_to_compare_with() -> None:
    rules = RULES.model_copy(update={"max_slowdown": 1.5})
    slow = answered(20, ttft=2)
    assert judge(rules, 0, seen(slow, stable=answered(19))).action == "advance"
    assert judge(rules, 0, seen(slow)).action == "abort"


def test_metrics_are_waited_for_and_kept() -> None:
    rules = Rules(metrics=("exact_match>=0.9", "loss<1"), min_requests=1, step_seconds=0)
    for metrics, action, why in (
        ({}, "wait", "an evaluation that has exact_match"),
        ({"exact_match": 0.9}, "wait", "loss"),
        ({"exact_match": 0.9, "loss": 0.5}, "advance", "1 requests"),
        ({"exact_match": 0.89}, "abort", "exact_match is 0.89, not >=0.9"),
        ({"exact_match": 0.95, "loss": 1}, "abort", "loss is 1, not <1"),
    ):
        judgement = judge(rules, 0, seen(answered(1), metrics=metrics))
        assert (judgement.action, why in judgement.why) == (action, True)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"steps": [10, 10]}, "steps"),
        ({"steps": []}, "steps"),
        ({"steps": [50, 101]}, "steps"),
        ({"min_requests": 0}, "min_requests"),
        ({"max_error_rate": 5}, "max_error_rate"),
        ({"metrics": ["exact_match"]}, "metric"),
        ({"max_ttft": 1}, "max_ttft"),
        ({"step_seconds": float("nan")}, "step_seconds"),
    ],
)
def test_rules_that_make_no_sense(values: dict[str, object], key: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        Rules.read(values)
    assert key in str(refusal.value.param)
