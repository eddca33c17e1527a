from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from registry.errors import ReceiptMismatch, RegistryUnreachable, TemplatesBusy
from server.errors import AdapterNotServable, Unavailable
from server.proof import ReceiptGate
from tests.server.api.fakes import FakeVersion

ONE, TWO, THREE = (FakeVersion("sql", number) for number in (1, 2, 3))


class Prover:
    """Refuses versions on its list; waits for `may_end` when it is told to."""

    def __init__(self) -> None:
        self.refused: dict[str, Exception] = {}
        self.asked: list[str] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, version: FakeVersion) -> None:
        self.asked.append(version.ref)
        assert self.may_end.wait(60)
        if version.ref in self.refused:
            raise self.refused[version.ref]


@pytest.fixture
def prover() -> Prover:
    return Prover()


@pytest.fixture
def gate(prover: Prover) -> Iterator[ReceiptGate]:
    gate = ReceiptGate(prover)  # type: ignore[arg-type]
    yield gate
    gate.stop()


def settle(gate: ReceiptGate) -> None:
    """Wait for what the gate's one thread has begun."""
    gate._thread.submit(lambda: None).result(60)


def test_the_first_version_is_waited_for_and_proven_once(gate: ReceiptGate, prover: Prover) -> None:
    assert gate.pass_through("sql", ONE) is ONE
    assert gate.pass_through("sql", ONE) is ONE
    assert gate.pass_through("sql@prod", ONE) is ONE
    assert prover.asked == ["sql@1"]


def test_a_moved_alias_takes_effect_once_proven(gate: ReceiptGate, prover: Prover) -> None:
    gate.pass_through("sql", ONE)
    prover.may_end.clear()
    assert gate.pass_through("sql", TWO) is ONE
    assert gate.pass_through("sql", TWO) is ONE
    prover.may_end.set()
    settle(gate)
    assert gate.pass_through("sql", TWO) is TWO
    assert prover.asked == ["sql@1", "sql@2"]


def test_a_version_that_breaks_its_receipt_never_takes_effect(
    gate: ReceiptGate, prover: Prover
) -> None:
    prover.refused["sql@2"] = ReceiptMismatch("probe 1, token 3")
    gate.pass_through("sql", ONE)
    gate.pass_through("sql", TWO)
    settle(gate)
    assert gate.pass_through("sql", TWO) is ONE
    with pytest.raises(AdapterNotServable, match=r"sql@2 is held back.*probe 1, token 3"):
        gate.pass_through("sql@canary", TWO)
    assert prover.asked == ["sql@1", "sql@2"]
    assert gate.pass_through("sql", THREE) is ONE
    settle(gate)
    assert gate.pass_through("sql", THREE) is THREE


@pytest.mark.parametrize(
    "passing",
    [Unavailable("the engine has stopped"), RegistryUnreachable("away"), TemplatesBusy("slow")],
)
def test_a_passing_failure_is_tried_again(
    gate: ReceiptGate, prover: Prover, passing: Exception
) -> None:
    prover.refused["sql@1"] = passing
    with pytest.raises(type(passing)):
        gate.pass_through("sql", ONE)
    del prover.refused["sql@1"]
    assert gate.pass_through("sql", ONE) is ONE


def test_a_rollback_to_a_proven_version_takes_effect_at_once(
    gate: ReceiptGate, prover: Prover
) -> None:
    for version in (ONE, TWO):
        gate.pass_through("sql", version)
        settle(gate)
    assert gate.pass_through("sql", TWO) is TWO
    assert gate.pass_through("sql", ONE) is ONE
    assert len(prover.asked) == 2


def test_what_was_asked_for_longest_ago_is_forgotten(prover: Prover) -> None:
    gate = ReceiptGate(prover, most=2)  # type: ignore[arg-type]
    for name, version in (("sql", ONE), ("sql@canary", TWO), ("sql", ONE), ("sql@next", THREE)):
        assert gate.pass_through(name, version) is version
    assert prover.asked == ["sql@1", "sql@2", "sql@3"]
    assert len(gate._outcomes) == len(gate._effective) == 2
    gate.pass_through("sql", ONE)
    gate.pass_through("sql@canary", TWO)
    assert prover.asked == ["sql@1", "sql@2", "sql@3", "sql@2"]
    gate.stop()


def test_a_replay_under_way_is_not_begun_again(prover: Prover) -> None:
    gate = ReceiptGate(prover, most=1)  # type: ignore[arg-type]
    gate.pass_through("sql", ONE)
    prover.may_end.clear()
    for version in (TWO, THREE, TWO, THREE):
        assert gate.pass_through("sql", version) is ONE
    prover.may_end.set()
    settle(gate)
    assert prover.asked == ["sql@1", "sql@2", "sql@3"]
    gate.stop()
