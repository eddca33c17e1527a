"""Any sequence of moves, canaries and rollbacks, against a plain account of what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from registry import BaseRecord, Registry
from registry.canary.outcomes import Outcomes
from registry.canary.reports import Report
from registry.canary.rules import Rules
from registry.errors import AliasConflict, CanaryConflict, CanaryNotFound, InvalidRequest
from tests.registry.making import make_adapter

WEIGHTS = (20, 60)
RULES = Rules(steps=WEIGHTS, step_seconds=0, bake_seconds=0, min_requests=10)
NUMBERS = st.integers(1, 3)


class CanaryMachine(RuleBasedStateMachine):
    """`stack` is what rollbacks go back through, `running` the canary's version and step."""

    registry: Registry
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        self.alias = f"a{CanaryMachine.runs}"  # the versions are shared, each run has its alias
        CanaryMachine.runs += 1
        self.running: tuple[int, int] | None = None
        self.kinds: list[str] = ["set"]
        self.stack: list[int] = []

    @initialize(number=NUMBERS)
    def begin(self, number: int) -> None:
        self.registry.set_alias("sql", self.alias, f"sql@{number}")
        self.stack.append(number)

    @rule(number=NUMBERS)
    def set(self, number: int) -> None:
        self.registry.set_alias("sql", self.alias, f"sql@{number}")
        self._end()
        if number != self.stack[-1]:
            self.stack.append(number)
            self.kinds.append("set")

    @rule(number=NUMBERS)
    def start(self, number: int) -> None:
        canaries = self.registry.canaries
        if number == self.stack[-1] or self.running is not None:
            with pytest.raises((InvalidRequest, CanaryConflict)):
                canaries.start("sql", self.alias, str(number), RULES)
            return
        canaries.start("sql", self.alias, str(number), RULES, expected=self.stack[-1])
        self.running = (number, 0)
        self.kinds.append("canary.start")

    @precondition(lambda self: self.running is None)
    @rule()
    def decide_about_nothing(self) -> None:
        for act in (self.registry.canaries.advance, self.registry.canaries.abort):
            with pytest.raises(CanaryNotFound):
                act("sql", self.alias)

    @precondition(lambda self: self.running is not None)
    @rule(by_rules=st.booleans())
    def advance(self, by_rules: bool) -> None:
        assert self.running is not None
        target, step = self.running
        if by_rules:
            self._report(Outcomes(10, 0))
            assert len(self.registry.canaries.decide()) == 1
        else:
            self.registry.canaries.advance("sql", self.alias)
        if step + 1 < len(WEIGHTS):
            self.running = (target, step + 1)
            self.kinds.append("canary.advance")
            return
        self.running = None
        self.stack.append(target)
        self.kinds.append("canary.promote")

    @precondition(lambda self: self.running is not None)
    @rule(by_rules=st.booleans())
    def abort(self, by_rules: bool) -> None:
        if by_rules:
            self._report(Outcomes(5, 5))
            assert len(self.registry.canaries.decide()) == 1
        else:
            self.registry.canaries.abort("sql", self.alias)
        self._end()

    @rule()
    def roll_back(self) -> None:
        was_running = self.running is not None
        if not was_running and len(self.stack) < 2:
            with pytest.raises(AliasConflict):
                self.registry.rollback_alias("sql", self.alias)
            return
        left = self.registry.rollback_alias("sql", self.alias)
        self._end()
        if not was_running:
            self.stack.pop()
            self.kinds.append("rollback")
        assert left.number == self.stack[-1]

    @invariant()
    def agrees(self) -> None:
        if not self.stack:
            return
        route = self.registry.route(f"sql@{self.alias}")
        assert route.stable.number == self.stack[-1]
        split = None if route.split is None else (route.split.target.number, route.split.weight)
        running = self.running and (self.running[0], WEIGHTS[self.running[1]])
        assert split == running
        history = self.registry.alias_history("sql", self.alias)
        assert [event.kind for event in history] == self.kinds

    def _end(self) -> None:
        if self.running is not None:
            self.kinds.append("canary.abort")
        self.running = None

    def _report(self, outcomes: Outcomes) -> None:
        running = self.registry.canaries.standing("sql", self.alias).canary
        report = Report(running.id, running.step, "server", target=outcomes)
        self.registry.canaries.report("sql", self.alias, report)

    def teardown(self) -> None:
        if self.running is not None:
            self.registry.canaries.abort("sql", self.alias)


def test_any_sequence_of_decisions(registry: Registry, base: BaseRecord, tmp_path: Path) -> None:
    for seed in range(3):
        registry.push(make_adapter(tmp_path / "a", seed=seed, lock=base), "sql")
    CanaryMachine.registry = registry
    run_state_machine_as_test(
        CanaryMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
