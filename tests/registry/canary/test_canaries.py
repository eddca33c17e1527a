from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from registry import BaseRecord, Registry
from registry.canary.canaries import DECIDER, Canaries
from registry.canary.outcomes import Outcomes
from registry.canary.reports import Report
from registry.canary.rules import Rules
from registry.errors import (
    AliasConflict,
    AliasNotFound,
    BaseMismatch,
    CanaryConflict,
    CanaryNotFound,
    Forbidden,
    InvalidReference,
    InvalidRequest,
    RegistryError,
    VersionInUse,
)
from registry.referrers import EVALUATION, add_referrer
from registry.tables import canary_report
from tests.registry.making import make_adapter

EVERY_DATABASE = True
QUICK = Rules(steps=(10, 50, 100), step_seconds=0, bake_seconds=0, min_requests=10)


@pytest.fixture
def canaries(registry: Registry, base: BaseRecord, tmp_path: Path) -> Canaries:
    """Three versions of `sql`; `prod` points at the first."""
    for seed in range(3):
        registry.push(make_adapter(tmp_path / "a", seed=seed, lock=base), "sql")
    registry.set_alias("sql", "prod", "sql@1", by="ann")
    return registry.canaries


def say(canaries: Canaries, requests: int, errors: int = 0, holder: str = "s1") -> None:
    """Let a server report on the step that runs."""
    running = canaries.standing("sql", "prod").canary
    outcomes = Outcomes(requests, errors)
    canaries.report("sql", "prod", Report(running.id, running.step, holder, target=outcomes))


def story(registry: Registry) -> list[tuple[object, ...]]:
    return [
        (each.kind, each.from_number, each.to_number, each.weight, each.by)
        for each in registry.alias_history("sql", "prod")
    ]


def test_a_good_canary_becomes_the_alias(registry: Registry, canaries: Canaries) -> None:
    begun = canaries.start("sql", "prod", "2", QUICK, expected=1, by="ann", why="better?")
    assert (begun.weight, begun.step, begun.stable.number, begun.target.number) == (10, 0, 1, 2)
    assert canaries.decide() == []
    for weight in (50, 100, 0):
        say(canaries, 6, holder="s1")
        assert canaries.decide() == []
        say(canaries, 6, holder="s2")
        (decided,) = canaries.decide()
        assert decided.weight == weight
        assert canaries.decide() == []
    assert (decided.state, registry.resolve("sql").number) == ("promoted", 2)
    assert story(registry) == [
        ("set", None, 1, None, "ann"),
        ("canary.start", 1, 2, 10, "ann"),
        ("canary.advance", 1, 2, 50, DECIDER),
        ("canary.advance", 1, 2, 100, DECIDER),
        ("canary.promote", 1, 2, 100, DECIDER),
    ]
    assert registry.alias_history("sql", "prod")[2].why == "12 requests, 0 failed"
    kinds = [event.kind for event in registry.events()][-4:]
    assert kinds == [
        "alias.canary.start",
        "alias.canary.advance",
        "alias.canary.advance",
        "alias.canary.promote",
    ]
    assert registry.rollback_alias("sql", "prod").number == 1


def test_a_failing_one_ends_at_once(registry: Registry, canaries: Canaries) -> None:
    canaries.start("sql", "prod", "sql@2", QUICK, by="ann")
    say(canaries, 2, 2)
    (ended,) = canaries.decide()
    assert (ended.state, ended.weight) == ("aborted", 0)
    assert ended.verdict == "2 of 2 requests failed, over 5.0%"
    assert registry.resolve("sql").number == 1
    assert registry.route("sql").split is None
    assert story(registry)[-1] == ("canary.abort", 2, 1, 0, DECIDER)
    with registry.catalog.read() as connection:
        assert connection.execute(sa.select(canary_report)).all() == []
    with pytest.raises(AliasConflict, match="nothing to roll back"):
        registry.rollback_alias("sql", "prod")


def test_evaluations_count(registry: Registry, canaries: Canaries) -> None:
    rules = QUICK.model_copy(update={"metrics": ("exact_match>=0.9",), "steps": (100,)})
    canaries.start("sql", "prod", "2", rules)
    say(canaries, 50)
    assert canaries.decide() == []
    assert "exact_match" in canaries.standing("sql", "prod").judgement.why
    add_referrer(
        registry, registry.resolve("sql@2"), EVALUATION, {"metrics": {"exact_match": 0.95}}, by="ci"
    )
    assert [each.state for each in canaries.decide()] == ["promoted"]
    canaries.start("sql", "prod", "3", rules)
    add_referrer(
        registry, registry.resolve("sql@3"), EVALUATION, {"metrics": {"exact_match": 0.5}}, by="ci"
    )
    assert [each.state for each in canaries.decide()] == ["aborted"]


def test_names_lead_to_both_versions(registry: Registry, canaries: Canaries) -> None:
    registry.set_alias("sql", "next", "sql@3")
    canaries.start("sql", "prod", "2", QUICK)
    for name in ("sql", "sql@prod"):
        route = registry.route(name)
        assert route.split is not None
        assert (route.stable.number, route.split.target.number, route.split.weight) == (1, 2, 10)
    for name in ("sql@1", "sql@next", registry.resolve("sql@2").digest.join(["sql@", ""])):
        assert registry.route(name).split is None
    assert [(each.alias, each.weight) for each in registry.splits("sql")] == [("prod", 10)]


def test_what_cannot_be_begun(
    registry: Registry, canaries: Canaries, base: BaseRecord, tmp_path: Path
) -> None:
    with pytest.raises(AliasNotFound, match="points somewhere"):
        canaries.start("sql", "next", "2", QUICK)
    with pytest.raises(AliasConflict):
        canaries.start("sql", "prod", "2", QUICK, expected=3)
    with pytest.raises(InvalidRequest, match="already"):
        canaries.start("sql", "prod", "1", QUICK)
    with pytest.raises(InvalidReference, match="versions of sql only"):
        canaries.start("sql", "prod", "orders@1", QUICK)
    registry.protect_alias("sql", "prod")
    with pytest.raises(Forbidden):
        canaries.start("sql", "prod", "2", QUICK, may_move_protected=False)
    other = base.model_copy(update={"fingerprint": "sha256:" + "0" * 64})
    folder = make_adapter(tmp_path / "other", lock=other)
    registry.push(folder, "sql", allow_new_base=True)
    with pytest.raises(BaseMismatch):
        canaries.start("sql", "prod", "4", QUICK)
    canaries.start("sql", "prod", "2", QUICK)
    with pytest.raises(CanaryConflict, match="already"):
        canaries.start("sql", "prod", "3", QUICK)
    with pytest.raises(VersionInUse, match="canary"):
        registry.withdraw("sql@2")


def test_decisions_by_hand_are_compare_and_set(registry: Registry, canaries: Canaries) -> None:
    with pytest.raises(CanaryNotFound):
        canaries.abort("sql", "prod")
    with pytest.raises(CanaryNotFound):
        canaries.standing("sql", "prod")
    begun = canaries.start("sql", "prod", "2", QUICK)
    assert canaries.advance("sql", "prod", expected=begun.etag, why="looks well").weight == 50
    for act in (canaries.advance, canaries.abort):
        with pytest.raises(CanaryConflict, match="decide again"):
            act("sql", "prod", expected=begun.etag)
    for weight in (100, 0):
        assert canaries.advance("sql", "prod").weight == weight
    assert registry.resolve("sql").number == 2
    canaries.start("sql", "prod", "3", QUICK)
    assert canaries.abort("sql", "prod", why="no").state == "aborted"
    assert registry.resolve("sql").number == 2


@pytest.mark.parametrize("move", ["set", "set to the same", "rollback"])
def test_moving_the_alias_ends_its_canary(
    registry: Registry, canaries: Canaries, move: str
) -> None:
    registry.set_alias("sql", "prod", "sql@2")
    canaries.start("sql", "prod", "3", QUICK)
    if move == "rollback":
        # The canary is what was done last, so it is what is undone.
        assert registry.rollback_alias("sql", "prod", by="bob").number == 2
        assert story(registry)[-1] == ("canary.abort", 3, 2, 0, "bob")
        assert registry.rollback_alias("sql", "prod").number == 1
    else:
        registry.set_alias("sql", "prod", "sql@1" if move == "set" else "sql@2", by="bob")
        assert registry.resolve("sql").number == (1 if move == "set" else 2)
    assert canaries.running() == []
    assert canaries.standing("sql", "prod").canary.state == "aborted"


def test_late_and_repeated_reports_count_once(canaries: Canaries) -> None:
    begun = canaries.start("sql", "prod", "2", QUICK)
    for requests in (3, 5):
        say(canaries, requests)
    assert canaries.standing("sql", "prod").evidence.target.requests == 5
    canaries.advance("sql", "prod")
    late = Report(begun.id, begun.step, "s1", target=Outcomes(99))
    assert canaries.report("sql", "prod", late) is not None
    assert canaries.standing("sql", "prod").evidence.target.requests == 0
    canaries.abort("sql", "prod")
    assert canaries.report("sql", "prod", late) is None


def test_two_deciders_advance_one_step(registry: Registry, canaries: Canaries) -> None:
    canaries.start("sql", "prod", "2", QUICK)
    say(canaries, 10)
    barrier, decided, failures = threading.Barrier(4), [], []

    def decide() -> None:
        barrier.wait()
        try:
            decided.extend(canaries.decide())
        except RegistryError as error:
            failures.append(error)

    threads = [threading.Thread(target=decide) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [each.weight for each in decided] == [50]
    assert len(story(registry)) == 3
