"""Drive an engine by hand, and note when each token came."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from server.engine.engine import Engine
from server.engine.request import AdapterRef, GenerationDelta, GenerationRequest, SamplingParams
from server.errors import ServingError

ADAPTER_WAIT = 0.0002  # seconds between looks at an adapter that is on its way


@dataclass
class Driver:
    """Steps an engine as its worker does. Times are `time.perf_counter()` seconds."""

    engine: Engine
    arrivals: dict[str, list[float]] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=itertools.count)

    def submit(self, prompt: Sequence[int], adapter: str | None, count: int) -> str:
        """A greedy sequence of exactly `count` tokens; its id."""
        request_id = f"bench-{next(self._ids)}"
        params = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
        reference = AdapterRef(adapter, adapter) if adapter else None
        self.arrivals[request_id] = []
        self.engine.add(GenerationRequest(request_id, tuple(prompt), params, reference))
        return request_id

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Step until it is so, or nothing is left to do."""
        while self.engine.has_work and not until():
            if not self.engine.step(self._take):
                time.sleep(ADAPTER_WAIT)

    def have_all(self, request_ids: Sequence[str], count: int) -> bool:
        """Whether each of them has more than `count` tokens."""
        return all(len(self.arrivals[request_id]) > count for request_id in request_ids)

    def _take(self, request_id: str, outcome: GenerationDelta | ServingError) -> None:
        if isinstance(outcome, ServingError):
            raise outcome
        if request_id in self.arrivals:
            self.arrivals[request_id].append(time.perf_counter())


def after(steps: int) -> Callable[[], bool]:
    """Whether it has been asked so many times."""
    left = iter(range(steps))
    return lambda: next(left, None) is None
