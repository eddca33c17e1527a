"""What the rules say of a canary, given how its requests went. Decides; changes nothing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from registry.pages import MetricCondition

from .outcomes import Outcomes
from .rules import Rules

_HOLDS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class Evidence:
    """What is known of one step: `seconds` since it began, and how both versions' requests went.

    `metrics` are those of the canary's version; `refusal` is why a server cannot serve it.
    """

    seconds: float
    stable: Outcomes
    target: Outcomes
    metrics: Mapping[str, float]
    refusal: str = ""


@dataclass(frozen=True)
class Judgement:
    """What to do with a canary now, and why, for the history."""

    action: Literal["wait", "advance", "promote", "abort"]
    why: str


def judge(rules: Rules, step: int, evidence: Evidence) -> Judgement:
    """Apply the rules to one step's evidence."""
    broken = next(_broken(rules, evidence), None)
    if broken is not None:
        return Judgement("abort", broken)
    missing = next(_missing(rules, step, evidence), None)
    if missing is not None:
        return Judgement("wait", missing)
    why = summary(evidence.target)
    if not rules.is_automatic:
        return Judgement("wait", f"every rule is kept: advance it by hand ({why})")
    return Judgement("promote" if step == len(rules.steps) - 1 else "advance", why)


def summary(outcomes: Outcomes) -> str:
    """What came of a version's requests, in one line."""
    parts = [f"{outcomes.requests} requests", f"{outcomes.errors} failed"]
    for name, latencies in (("first token", outcomes.ttft), ("per token", outcomes.inter_token)):
        p95 = latencies.quantile(0.95)
        if p95 is not None:
            parts.append(f"p95 {name} {p95:.3f} s")
    return ", ".join(parts)


def _broken(rules: Rules, evidence: Evidence) -> Iterator[str]:
    """Rules that are broken, whatever still comes."""
    if evidence.refusal:
        yield f"a server cannot serve it: {evidence.refusal}"
    target = evidence.target
    if rules.max_error_rate is not None:
        # Before min_requests are there: more errors than all of them together may have.
        counted = max(target.requests, rules.min_requests)
        if target.errors > rules.max_error_rate * counted:
            yield (
                f"{target.errors} of {target.requests} requests failed, over "
                f"{rules.max_error_rate:.1%}"
            )
    for condition in rules.conditions:
        value = evidence.metrics.get(condition.name)
        if value is not None and not _HOLDS[condition.relation](value, condition.value):
            yield f"{condition.name} is {value:g}, not {_spelled(condition)}"
    if target.requests >= rules.min_requests:
        yield from _too_slow(rules, evidence)


def _too_slow(rules: Rules, evidence: Evidence) -> Iterator[str]:
    stable, target = evidence.stable, evidence.target
    for name, limit, mine, theirs in (
        ("first token", rules.max_ttft_p95, target.ttft, stable.ttft),
        ("per token", rules.max_inter_token_p95, target.inter_token, stable.inter_token),
    ):
        p95, other = mine.quantile(0.95), theirs.quantile(0.95)
        if p95 is None:
            continue
        if limit is not None and p95 > limit:
            yield f"p95 {name} is {p95:.3f} s, over {limit:g} s"
        is_comparable = other is not None and theirs.total >= rules.min_requests
        if rules.max_slowdown is not None and other is not None and is_comparable:
            slowdown = p95 / other
            if slowdown > rules.max_slowdown:
                yield (
                    f"p95 {name} is {p95:.3f} s, {slowdown:.1f} times the other version's, over "
                    f"{rules.max_slowdown:g}"
                )


def _missing(rules: Rules, step: int, evidence: Evidence) -> Iterator[str]:
    """What a step still waits for."""
    if evidence.target.requests < rules.min_requests:
        yield f"{evidence.target.requests} of {rules.min_requests} requests"
    left = rules.seconds_of(step) - evidence.seconds
    if left > 0:
        yield f"another {left:.0f} s"
    for condition in rules.conditions:
        if condition.name not in evidence.metrics:
            yield f"an evaluation that has {condition.name}"


def _spelled(condition: MetricCondition) -> str:
    return f"{condition.relation}{condition.value:g}"
