"""How fast adapters come, and what that costs those who run beside it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from server.bench.device_cases import DeviceCases
from server.bench.driving import ADAPTER_WAIT, Driver, after
from server.bench.workload import PROMPT_TOKENS
from server.engine.request import AdapterRef

NEWCOMER_EVERY = 5  # steps
NEWCOMER_TOKENS = 8  # of its prompt
Disturb = Callable[[Driver], None]
"""Adds something to what runs."""


@dataclass(frozen=True)
class DeviceMovement:
    """Measures one engine whose host memory holds more adapters than it has slots."""

    cases: DeviceCases

    def cold(self, tokens: int) -> list[float]:
        """Seconds to the first token of adapters that are only on disk, sorted."""
        work, adapters = self.cases.work, self.cases.engine.adapters
        seconds = []
        for number in range(work.num_adapters - work.moved, work.num_adapters):
            name = self.cases.adapter(number)
            adapters.unload(name)
            seconds.append(self.cases.first_token_once(tokens, name))
        return sorted(seconds)

    def swaps(self) -> list[float]:
        """Seconds until adapters that only host memory holds may be used in a slot, sorted."""
        adapters = self.cases.engine.adapters
        in_host = [resident for resident in adapters.residents() if resident.level == "host"]
        seconds = []
        for resident in in_host[: self.cases.work.moved]:
            started = time.perf_counter()
            adapters.want(AdapterRef(resident.digest, resident.label))
            while not adapters.is_resident(resident.digest):
                adapters.settle()
            seconds.append(time.perf_counter() - started)
            time.sleep(ADAPTER_WAIT)
        return sorted(seconds)

    def gaps(self, disturb: Disturb | None) -> list[float]:
        """Seconds between the tokens of running streams while something comes beside them."""
        work, driver = self.cases.work, Driver(self.cases.engine)
        self.cases.make_resident(work.disturbed.adapters)
        first, last = work.short, work.disturbed_tokens
        ids = [
            driver.submit(
                self.cases.prompt(PROMPT_TOKENS),
                self.cases.name_of(work.disturbed, stream),
                last + 1,
            )
            for stream in range(work.disturbed.streams)
        ]
        driver.run(until=lambda: driver.have_all(ids, first))
        while not driver.have_all(ids, last):
            if disturb is not None:
                disturb(driver)
            driver.run(until=after(NEWCOMER_EVERY))
        driver.run()
        of_each = [driver.arrivals[request_id][first:last] for request_id in ids]
        return sorted(b - a for times in of_each for a, b in itertools.pairwise(times))

    def newcomers(self, *, resident: bool) -> Disturb:
        """Short requests, one after the other: for adapters that run, or each for one that has
        to come from disk into a slot.
        """
        work = self.cases.work
        others = range(self.cases.engine.stats().max_slots, work.num_adapters)
        numbers = itertools.cycle(range(work.disturbed.adapters) if resident else others)

        def add(driver: Driver) -> None:
            name = self.cases.adapter(next(numbers))
            if not resident:
                driver.engine.adapters.unload(name)
            driver.submit(self.cases.prompt(NEWCOMER_TOKENS), name, 1)

        return add
