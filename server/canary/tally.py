"""How this server's requests went on both sides of each canary."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from registry.canary.outcomes import Outcomes

from .arms import Arm, Trial


@dataclass(frozen=True)
class Answered:
    """One answer's fate. Seconds are None where it did not come so far."""

    failed: bool = False
    ttft: float | None = None  # from the request's arrival to its first token
    per_token: float | None = None  # mean time between tokens after the first


@dataclass(frozen=True)
class Sides:
    """The answers of one step: of the version that the alias points at, and of the canary's."""

    stable: Outcomes = field(default_factory=Outcomes)
    target: Outcomes = field(default_factory=Outcomes)


class Tally:
    """Outcomes by canary and step; written on the event loop, read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sides: dict[tuple[int, int], Sides] = {}

    def note(self, arm: Arm, answered: Answered) -> None:
        """Count one answer."""
        with self._lock:
            sides = self._sides.get(arm.step, Sides())
            if arm.is_target:
                sides = replace(sides, target=_plus(sides.target, answered))
            else:
                sides = replace(sides, stable=_plus(sides.stable, answered))
            self._sides[arm.step] = sides

    def of(self, trial: Trial) -> Sides:
        """What was counted in the step that runs."""
        with self._lock:
            return self._sides.get((trial.split.canary, trial.split.step), Sides())

    def keep_only(self, trials: Iterable[Trial]) -> None:
        """Every other canary has ended; what is noted of it later goes with the next call."""
        canaries = {trial.split.canary for trial in trials}
        with self._lock:
            self._sides = {step: each for step, each in self._sides.items() if step[0] in canaries}


def _plus(outcomes: Outcomes, answered: Answered) -> Outcomes:
    ttft, inter_token = outcomes.ttft, outcomes.inter_token
    if answered.ttft is not None:
        ttft = ttft.plus(answered.ttft)
    if answered.per_token is not None:
        inter_token = inter_token.plus(answered.per_token)
    errors = outcomes.errors + answered.failed
    return Outcomes(outcomes.requests + 1, errors, ttft, inter_token)
