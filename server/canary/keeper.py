"""Readies canaries' versions on this server, and tells the registry how their requests went."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from registry.canary.record import Route
from registry.canary.reports import Report
from registry.errors import RegistryError
from registry.errors import Unavailable as RegistryUnavailable
from registry.references import Reference
from registry.versions import Version
from server.errors import QueueFull, ServingError, Unavailable

from .arms import Arms, Trial
from .tally import Sides, Tally

logger = logging.getLogger(__name__)

_PASSING = (RegistryUnavailable, Unavailable, QueueFull)
Prepare = Callable[[Version], Awaitable[None]]
"""Makes a version ready to answer; raises ServingError or RegistryError where it cannot."""


class Reporting(Protocol):
    """Who takes reports: the registry's canaries."""

    def report(self, name: str, alias: str, report: Report) -> object: ...


class Source(Protocol):
    """The registry, as far as canaries go. Its methods are called off the event loop."""

    @property
    def canaries(self) -> Reporting: ...

    def route(self, reference: Reference) -> Route: ...


class Keeper:
    """Attends, every `interval` seconds, to the canaries that requests have met."""

    def __init__(
        self,
        *,
        arms: Arms,
        tally: Tally,
        registry: Source,
        prepare: Prepare,
        holder: str,
        interval: float,
    ) -> None:
        self._arms = arms
        self._tally = tally
        self._registry = registry
        self._prepare = prepare
        self._holder = holder  # this server, among the others that report
        self._interval = interval
        self._preparing: set[str] = set()  # digests
        self._refusals: dict[int, str] = {}  # by canary
        self._troubles: dict[int, str] = {}  # what was logged last, by canary
        self._reported: dict[int, tuple[int, Sides, str]] = {}  # what was said last, by canary

    async def run(self) -> None:
        """Attend for ever; ends by cancellation."""
        async with anyio.create_task_group() as tasks:
            while True:
                for trial in self._arms.trials:
                    await self._attend(trial, tasks)
                self._tally.keep_only(self._arms.trials)
                await anyio.sleep(self._interval)

    async def _attend(self, trial: Trial, tasks: TaskGroup) -> None:
        try:
            current = await anyio.to_thread.run_sync(self._current, trial)
            if current is None:
                self._forget(trial)
                return
            self._arms.know(current)
            digest = current.split.target.digest
            if digest not in self._preparing and current.split.canary not in self._refusals:
                self._preparing.add(digest)
                # Beside the others: one version that loads slowly holds up no report.
                tasks.start_soon(self._ready, current)
            await self._report(current)
            self._troubles.pop(trial.split.canary, None)
        except RegistryError as failure:
            self._complain(trial, failure.message)
        except Exception as failure:
            # Whatever is wrong with one canary, the others and serving go on.
            self._complain(trial, repr(failure))

    def _complain(self, trial: Trial, trouble: str) -> None:
        """Log what goes wrong, once as long as it stays the same."""
        if self._troubles.get(trial.split.canary) != trouble:
            logger.warning("canary of %s: %s", trial.ref, trouble)
        self._troubles[trial.split.canary] = trouble

    def _current(self, trial: Trial) -> Trial | None:
        """The canary as it stands now; None once it has ended."""
        route = self._registry.route(Reference(trial.name, alias=trial.split.alias))
        if route.split is None or route.split.canary != trial.split.canary:
            return None
        return Trial(route.stable, route.split)

    async def _ready(self, trial: Trial) -> None:
        """Load the canary's version, again where it has been evicted, and let it have its share."""
        try:
            await self._prepare(trial.split.target)
            if not self._arms.is_ready(trial):
                logger.info("canary of %s: %s is ready", trial.ref, trial.split.target.ref)
            self._arms.ready(trial)
        except Exception as failure:
            if _passes(failure):
                logger.info("canary of %s: %s", trial.ref, failure)
                return
            logger.warning("canary of %s is refused: %s", trial.ref, failure)
            self._refusals[trial.split.canary] = str(failure) or repr(failure)
        finally:
            self._preparing.discard(trial.split.target.digest)

    async def _report(self, trial: Trial) -> None:
        split = trial.split
        sides, refusal = self._tally.of(trial), self._refusals.get(split.canary, "")
        saying = (split.step, sides, refusal)
        if saying == self._reported.get(split.canary, (split.step, Sides(), "")):
            return
        report = Report(split.canary, split.step, self._holder, sides.stable, sides.target, refusal)
        await anyio.to_thread.run_sync(
            self._registry.canaries.report, trial.name, split.alias, report
        )
        self._reported[split.canary] = saying

    def _forget(self, trial: Trial) -> None:
        canary = trial.split.canary
        self._arms.forget(trial)
        self._refusals.pop(canary, None)
        self._troubles.pop(canary, None)
        self._reported.pop(canary, None)


def _passes(failure: Exception) -> bool:
    """Whether another try may do, as after a moment in which the device had no memory."""
    says_when = isinstance(failure, ServingError) and failure.retry_after is not None
    return says_when or isinstance(failure, _PASSING)
