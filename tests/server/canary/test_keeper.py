"""One server's part in a canary, with a registry and a clockwork of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from registry.canary.record import Route, Split
from registry.canary.reports import Report
from registry.errors import ReceiptMismatch, RegistryUnreachable
from registry.references import Reference
from registry.versions import Version
from server.canary.arms import Arms
from server.canary.keeper import Keeper
from server.canary.tally import Answered, Tally
from server.errors import AdapterLoadError, Unavailable
from tests.server.api.fakes import FakeVersion
from tests.support.waiting import becomes

ONE, TWO = (FakeVersion("sql", number) for number in (1, 2))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Site:
    """A keeper, and what it works on."""

    def __init__(self) -> None:
        self.arms, self.tally = Arms(), Tally()
        self.current: Route = self.split(100)
        self.reports: list[Report] = []
        self.failure: Exception | None = None
        self.report_failure: Exception | None = None
        self.prepared: list[str] = []

    def split(self, weight: int, step: int = 0, canary: int = 7) -> Route:
        return Route(ONE, Split(canary, "prod", step, weight, TWO))  # type: ignore[arg-type]

    async def prepare(self, version: Version) -> None:
        self.prepared.append(version.ref)
        if self.failure is not None:
            raise self.failure

    def report(self, name: str, alias: str, report: Report) -> None:
        assert (name, alias) == ("sql", "prod")
        if self.report_failure is not None:
            raise self.report_failure
        self.reports.append(report)

    @property
    def canaries(self) -> Site:
        return self

    def route(self, reference: Reference) -> Route:
        assert str(reference) == "sql@prod"
        return self.current

    def ask(self, session: str = "ann") -> str:
        """One request that is answered."""
        version, arm = self.arms.choose(self.current, session)
        if arm is not None:
            self.tally.note(arm, Answered(ttft=0.1))
        return version.ref

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        keeper = Keeper(
            arms=self.arms,
            tally=self.tally,
            registry=self,
            prepare=self.prepare,
            holder="me",
            interval=0.01,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keeper.run)
            yield
            tasks.cancel_scope.cancel()


pytestmark = pytest.mark.anyio


async def test_nobody_waits_for_a_version_that_is_not_ready() -> None:
    site = Site()
    assert site.ask() == "sql@1"
    async with site.kept():
        await becomes(lambda: site.ask() == "sql@2")
        await becomes(lambda: site.reports and site.reports[-1].target.requests >= 1)
    assert site.reports[-1].stable.requests >= 1
    assert (site.reports[-1].canary, site.reports[-1].holder) == (7, "me")


async def test_a_version_that_cannot_be_served_gets_nothing_and_is_told_of() -> None:
    site = Site()
    site.failure = ReceiptMismatch("probe 1, token 3")
    site.ask()
    async with site.kept():
        await becomes(lambda: any(report.refusal for report in site.reports))
        assert site.ask() == "sql@1"
    assert site.reports[-1].refusal == "probe 1, token 3"
    assert site.prepared == ["sql@2"]


@pytest.mark.parametrize(
    "failure",
    [Unavailable("the engine is busy"), AdapterLoadError("no memory now", retry_after=1.0)],
)
async def test_a_passing_failure_is_tried_again(failure: Exception) -> None:
    site = Site()
    site.failure = failure
    site.ask()
    async with site.kept():
        await becomes(lambda: len(site.prepared) > 2)
        assert site.ask() == "sql@1"
        site.failure = None
        await becomes(lambda: site.ask() == "sql@2")
    assert all(not report.refusal for report in site.reports)


async def test_steps_are_counted_apart_and_the_end_is_noticed() -> None:
    site = Site()
    site.ask()
    async with site.kept():
        await becomes(lambda: site.ask() == "sql@2")
        site.current = site.split(100, step=1)
        site.ask()
        await becomes(lambda: site.reports and site.reports[-1].step == 1)
        assert site.reports[-1].target == site.tally.of(site.arms.trials[0]).target
        site.current = Route(ONE)  # type: ignore[arg-type]
        await becomes(lambda: not site.arms.trials)
        told = len(site.reports)
        assert site.ask() == "sql@1"
        # The next canary of the same version is readied anew.
        site.current = site.split(100, canary=8)
        assert site.ask() == "sql@1"
        await becomes(lambda: site.ask() == "sql@2")
        await becomes(lambda: len(site.reports) > told)
    assert site.reports[-1].canary == 8


async def test_nothing_is_kept_of_an_answer_that_comes_after_the_end() -> None:
    site = Site()
    _, late = site.arms.choose(site.current, "ann")
    assert late is not None
    ended = late.trial
    async with site.kept():
        site.current = Route(ONE)  # type: ignore[arg-type]
        await becomes(lambda: not site.arms.trials)
        site.tally.note(late, Answered(ttft=0.1))
        assert site.tally.of(ended).stable.requests == 1
        await becomes(lambda: not site.tally.of(ended).stable.requests)


async def test_reports_outlive_a_registry_that_is_down() -> None:
    site = Site()
    site.report_failure = RegistryUnreachable("down")
    site.ask()
    async with site.kept():
        await becomes(lambda: site.ask() == "sql@2")
        site.report_failure = None
        await becomes(lambda: site.reports)
    sides = site.reports[-1]
    assert sides.stable.requests + sides.target.requests >= 2


async def test_a_mistake_in_one_canary_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    site.report_failure = ZeroDivisionError("a bug")
    site.ask()
    async with site.kept():
        await becomes(lambda: site.ask() == "sql@2")
        await anyio.sleep(0.05)
        site.report_failure = None
        await becomes(lambda: site.reports)
    assert caplog.text.count("a bug") == 1


async def test_nothing_new_is_not_told_again() -> None:
    site = Site()
    site.ask()
    async with site.kept():
        await becomes(lambda: site.reports and len(site.prepared) > 5)
        assert len(site.reports) == 1
