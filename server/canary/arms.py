"""Which version a request runs on while its alias has a canary."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from registry.canary.record import Route, Split
from registry.versions import Version


@dataclass(frozen=True)
class Trial:
    """A canary of which this server has heard, as its split stood last."""

    stable: Version
    split: Split

    @property
    def name(self) -> str:
        return self.stable.name

    @property
    def ref(self) -> str:
        """`name@alias`, for the registry, logs and metrics."""
        return f"{self.name}@{self.split.alias}"


@dataclass(frozen=True)
class Arm:
    """One side of one step of a canary, on which a request counts."""

    trial: Trial
    version: str  # "sql@8"
    is_target: bool

    @property
    def step(self) -> tuple[int, int]:
        """The canary and its step."""
        return self.trial.split.canary, self.trial.split.step


class Arms:
    """Chooses between an alias's two versions; called from any thread.

    A canary's version gets its share only once it is `ready` here, so no request waits for it to
    be loaded or proven. The first request that meets a canary makes it known (`trials`).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trials: dict[int, Trial] = {}
        self._ready: set[str] = set()  # digests

    def choose(self, route: Route, session: str) -> tuple[Version, Arm | None]:
        """The version for a request of that session ("": of none)."""
        split = route.split
        if split is None:
            return route.stable, None
        trial = Trial(route.stable, split)
        self.know(trial)
        is_target = self.is_ready(trial) and split.takes(session)
        version = split.target if is_target else route.stable
        return version, Arm(trial, version.ref, is_target)

    def know(self, trial: Trial) -> None:
        """A canary runs, and stands so now."""
        with self._lock:
            self._trials[trial.split.canary] = trial

    @property
    def trials(self) -> list[Trial]:
        """Every canary that requests have met and that has not ended."""
        with self._lock:
            return list(self._trials.values())

    def is_ready(self, trial: Trial) -> bool:
        """Whether the canary's version may get its share."""
        with self._lock:
            return trial.split.target.digest in self._ready

    def ready(self, trial: Trial) -> None:
        """From now on the canary's version gets its share."""
        with self._lock:
            self._ready.add(trial.split.target.digest)

    def forget(self, trial: Trial) -> None:
        """The canary has ended."""
        with self._lock:
            self._trials.pop(trial.split.canary, None)
            self._ready.discard(trial.split.target.digest)
