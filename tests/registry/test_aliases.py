from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy.exc import IntegrityError

from registry import BaseRecord, Registry, Version
from registry.errors import (
    AliasConflict,
    AliasNotFound,
    InvalidReference,
    RegistryError,
    VersionInUse,
    VersionNotFound,
)
from tests.registry.making import make_adapter

EVERY_BACKEND = True


@pytest.fixture
def three(registry: Registry, base: BaseRecord, tmp_path: Path) -> list[Version]:
    """Three versions of `sql`."""
    return [
        registry.push(make_adapter(tmp_path / "a", seed=seed, lock=base), "sql")
        for seed in range(3)
    ]


@pytest.mark.usefixtures("three")
def test_every_move_is_an_event(registry: Registry) -> None:
    registry.set_alias("sql", "prod", "sql@1", by="ann", why="first")
    registry.set_alias("sql", "prod", "sql@3", by="bob", why="better")
    registry.set_alias("sql", "prod", "sql@3", by="eve", why="no move, no event")
    assert registry.rollback_alias("sql", "prod", by="ann", why="worse").number == 1
    first, second, back = registry.alias_history("sql", "prod")
    assert (first.by, first.why, first.from_number, first.to_number) == ("ann", "first", None, 1)
    assert (second.by, second.from_number, second.to_number) == ("bob", 1, 3)
    assert (back.kind, back.from_number, back.to_number) == ("rollback", 3, 1)
    assert first.at <= second.at <= back.at
    assert second.to_digest == registry.resolve("sql@3").digest


@pytest.mark.usefixtures("three")
def test_rolling_back_twice_goes_two_moves_back(registry: Registry) -> None:
    for number in (1, 2, 3):
        registry.set_alias("sql", "prod", f"sql@{number}")
    assert registry.rollback_alias("sql", "prod").number == 2
    assert registry.rollback_alias("sql", "prod").number == 1
    with pytest.raises(AliasConflict, match="nothing to roll") as refusal:
        registry.rollback_alias("sql", "prod")
    assert "only" not in str(refusal.value)  # it has pointed at all three
    assert "`registry alias set sql prod 2` points it at sql@2" in str(refusal.value)
    registry.set_alias("sql", "prod", "sql@3")
    assert registry.rollback_alias("sql", "prod").number == 1
    assert len(registry.alias_history("sql", "prod")) == 7


@pytest.mark.usefixtures("three")
def test_rolling_back_to_what_was_withdrawn_says_what_to_do(registry: Registry) -> None:
    for number in (1, 2, 3):
        registry.set_alias("sql", "prod", f"sql@{number}")
    with pytest.raises(VersionInUse, match="point it at another version first"):
        registry.withdraw("sql@3")
    registry.withdraw("sql@2")
    with pytest.raises(AliasConflict, match="at sql@2 before, which is withdrawn"):
        registry.rollback_alias("sql", "prod")
    assert registry.resolve("sql@prod").number == 3


@pytest.mark.usefixtures("three")
def test_one_that_never_moved_cannot_be_rolled_back(registry: Registry) -> None:
    registry.set_alias("sql", "prod", "sql@2")
    with pytest.raises(AliasConflict, match="has pointed at sql@2 only: there is nothing to roll"):
        registry.rollback_alias("sql", "prod")


def test_compare_and_set(registry: Registry, three: list[Version]) -> None:
    registry.set_alias("sql", "prod", "sql@1", expected="none")
    with pytest.raises(AliasConflict, match="points at sql@1") as refusal:
        registry.set_alias("sql", "prod", "sql@2", expected="none")
    assert (refusal.value.status, refusal.value.param) == (412, "expected")
    registry.set_alias("sql", "prod", "sql@2", expected=1)
    registry.set_alias("sql", "prod", "sql@3", expected=three[1].digest)
    registry.set_alias("sql", "prod", "sql@1", expected="sql@3")
    registry.set_alias("sql", "prod", "sql@2", expected=three[0].digest[:19])
    with pytest.raises(AliasConflict):
        registry.set_alias("sql", "prod", "sql@3", expected="other@2")
    with pytest.raises(AliasConflict):
        registry.rollback_alias("sql", "prod", expected=1)
    with pytest.raises(AliasConflict, match="does not exist"):
        registry.set_alias("sql", "canary", "sql@1", expected=1)
    with pytest.raises(InvalidReference, match="expected"):
        registry.set_alias("sql", "prod", "sql@3", expected="canary")
    assert registry.resolve("sql@prod").number == 2


@pytest.mark.usefixtures("three")
def test_what_cannot_be_pointed(registry: Registry) -> None:
    with pytest.raises(InvalidReference, match="digits alone"):
        registry.set_alias("sql", "7", "sql@1")
    with pytest.raises(InvalidReference, match="versions of sql only"):
        registry.set_alias("sql", "prod", "other@1")
    with pytest.raises(VersionNotFound):
        registry.set_alias("sql", "prod", "sql@9")
    registry.set_alias("sql", "prod", "sql@1")
    for missing in (registry.alias_history, registry.rollback_alias):
        with pytest.raises(AliasNotFound, match="did you mean 'prod'"):
            missing("sql", "prd")


def test_an_alias_may_be_set_from_another(registry: Registry, three: list[Version]) -> None:
    registry.set_alias("sql", "canary", "sql@2")
    assert registry.set_alias("sql", "prod", "sql@canary") == three[1]
    registry.set_alias("sql", "canary", "sql@3")
    assert registry.resolve("sql") == three[1]


@pytest.mark.usefixtures("three")
def test_the_database_itself_refuses_to_rewrite_history(registry: Registry) -> None:
    registry.set_alias("sql", "prod", "sql@1")
    for statement in (
        "UPDATE alias_event SET why = 'never happened'",
        "DELETE FROM alias_event",
        "UPDATE version SET number = 9",
        "UPDATE event SET kind = 'other'",
        "DELETE FROM event",
    ):
        with (
            pytest.raises((IntegrityError, RegistryError), match=r"append-only|immutable"),
            registry.catalog.write() as connection,
        ):
            connection.exec_driver_sql(statement)


class AliasMachine(RuleBasedStateMachine):
    """Any sequence of moves, against a plain list of what they should have led to."""

    registry: Registry

    def __init__(self) -> None:
        super().__init__()
        self.alias = f"a{AliasMachine.runs}"  # the versions are shared, each run has its alias
        AliasMachine.runs += 1
        self.stack: list[int] = []
        self.events: list[tuple[int | None, int]] = []

    runs = 0

    @rule(number=st.integers(1, 3), check=st.booleans())
    def set(self, number: int, check: bool) -> None:
        current = self.stack[-1] if self.stack else None
        expected = (current if current is not None else "none") if check else None
        self.registry.set_alias("sql", self.alias, f"sql@{number}", expected=expected)
        if number != current:
            self.stack.append(number)
            self.events.append((current, number))

    @rule(number=st.integers(1, 3), wrong=st.integers(4, 9))
    def set_in_ignorance(self, number: int, wrong: int) -> None:
        with pytest.raises(AliasConflict):
            self.registry.set_alias("sql", self.alias, f"sql@{number}", expected=wrong)

    @rule()
    def roll_back(self) -> None:
        if len(self.stack) < 2:
            with pytest.raises((AliasConflict, AliasNotFound)):
                self.registry.rollback_alias("sql", self.alias)
            return
        left = self.stack.pop()
        self.events.append((left, self.stack[-1]))
        assert self.registry.rollback_alias("sql", self.alias).number == self.stack[-1]

    @invariant()
    def agrees(self) -> None:
        if not self.stack:
            return
        assert self.registry.resolve(f"sql@{self.alias}").number == self.stack[-1]
        history = self.registry.alias_history("sql", self.alias)
        assert [(event.from_number, event.to_number) for event in history] == self.events


@pytest.mark.usefixtures("three")
def test_any_sequence_of_moves(registry: Registry) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    AliasMachine.registry = registry
    run_state_machine_as_test(
        AliasMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_pushing_in_any_order_any_number_of_times(
    tmp_path_factory: pytest.TempPathFactory, three_folders: list[Path], order: list[int]
) -> None:
    registry = Registry.open(tmp_path_factory.mktemp("order") / "registry")
    digests: list[str] = []
    for index in order:
        version = registry.push(three_folders[index], "sql")
        assert version.is_new == (version.digest not in digests)
        if version.is_new:
            digests.append(version.digest)
        assert version.number == digests.index(version.digest) + 1
    assert [version.digest for version in registry.versions("sql")] == digests


@pytest.fixture
def three_folders(base: BaseRecord, tmp_path: Path) -> list[Path]:
    return [make_adapter(tmp_path / f"f{seed}", seed=seed, lock=base) for seed in range(3)]
