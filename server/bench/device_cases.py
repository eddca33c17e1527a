"""What a device's engine is measured at, one method a figure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.bench.driving import Driver
from server.bench.workload import PROMPT_TOKENS, Case
from server.engine.engine import Engine
from server.engine.request import AdapterRef

SHORT, LONG = 8, 136  # generated tokens; decoding speed is taken between the two
ROUNDS = 2
LAST = 390  # token of a stream whose gaps are looked at


@dataclass
class DeviceCases:
    """Measures one engine. adapter: a name for the number of an adapter, all of one rank."""

    engine: Engine
    vocab_size: int
    adapter: Callable[[int], str] = "bench{}".format
    seed: int = 0

    def decode(self, case: Case) -> float:
        """Tokens per second over the batch, prefill excluded; the best of two."""
        self.make_resident(case.adapters)
        best = min(self._between(case) for _ in range(ROUNDS))
        return case.streams * (LONG - SHORT) / best

    def _between(self, case: Case) -> float:
        return self._run(case, LONG) - self._run(case, SHORT)

    def _run(self, case: Case, count: int) -> float:
        driver = Driver(self.engine)
        started = time.perf_counter()
        for stream in range(case.streams):
            driver.submit(self.prompt(PROMPT_TOKENS), self._of(case, stream), count)
        driver.run()
        return time.perf_counter() - started

    def prefill(self, *, streams: int, tokens: int, adapters: int) -> float:
        """Prompt tokens per second; the best of two."""
        self.make_resident(adapters)
        case = Case(streams, adapters)
        seconds = []
        for _ in range(ROUNDS + 1):
            driver = Driver(self.engine)
            prompts = [self.prompt(tokens) for _ in range(streams)]
            started = time.perf_counter()
            for stream, prompt in enumerate(prompts):
                driver.submit(prompt, self._of(case, stream), 1)
            driver.run()
            seconds.append(time.perf_counter() - started)
        return streams * tokens / min(seconds)

    def first_token(self, tokens: int, adapter: str | None) -> float:
        """Seconds from submission to the first token of a lone prompt; the median of seven."""
        seconds = []
        for _ in range(7):
            driver = Driver(self.engine)
            prompt = self.prompt(tokens)
            started = time.perf_counter()
            request_id = driver.submit(prompt, adapter, 1)
            driver.run()
            seconds.append(driver.arrivals[request_id][0] - started)
        return sorted(seconds)[len(seconds) // 2]

    def cold_first_token(self, tokens: int, numbers: Sequence[int]) -> list[float]:
        """Seconds to the first token of adapters that are only on disk, one after the other."""
        seconds = []
        for number in numbers:
            name = self.adapter(number)
            self.engine.adapters.unload(name)
            driver = Driver(self.engine)
            prompt = self.prompt(tokens)
            started = time.perf_counter()
            request_id = driver.submit(prompt, name, 1)
            driver.run()
            seconds.append(driver.arrivals[request_id][0] - started)
        return seconds

    def swaps(self, numbers: Sequence[int]) -> list[float]:
        """Seconds until each adapter that host memory holds may be used in a slot; sorted."""
        seconds = []
        for number in numbers:
            name = self.adapter(number)
            if self.engine.adapters.is_resident(name):
                continue
            started = time.perf_counter()
            self.engine.adapters.want(AdapterRef(name, name))
            while not self.engine.adapters.is_resident(name):
                self.engine.adapters.settle()
            seconds.append(time.perf_counter() - started)
        return sorted(seconds)

    def gaps(self, streams: int, adapters: int, disturb: Callable[[Driver], None]) -> list[float]:
        """Seconds between the tokens of running streams while something goes on beside them."""
        self.make_resident(adapters)
        driver = Driver(self.engine)
        case = Case(streams, adapters)
        ids = [
            driver.submit(self.prompt(PROMPT_TOKENS), self._of(case, stream), LAST + 10)
            for stream in range(streams)
        ]
        driver.run(until=lambda: driver.have_all(ids, SHORT))
        while not driver.have_all(ids, LAST):
            disturb(driver)
            driver.run(until=_after(5))
        driver.run()
        times = [driver.arrivals[request_id] for request_id in ids]
        return sorted(
            later - sooner
            for of_one in times
            for sooner, later in zip(of_one[SHORT:LAST], of_one[SHORT + 1 : LAST], strict=False)
        )

    def throughput(self, choices: Sequence[str | None], *, streams: int, count: int) -> float:
        """Generated tokens per second of many requests, so many at a time."""
        driver = Driver(self.engine)
        waiting = list(choices)[::-1]
        running: list[str] = []
        started = time.perf_counter()
        while waiting or running:
            running = [i for i in running if len(driver.arrivals[i]) < count]
            while waiting and len(running) < streams:
                running.append(driver.submit(self.prompt(PROMPT_TOKENS), waiting.pop(), count))
            driver.run(until=_after(1))
        return len(choices) * count / (time.perf_counter() - started)

    def make_resident(self, adapters: int) -> None:
        """Have the first adapters in slots, so that no figure holds a load."""
        names = [self.adapter(number) for number in range(adapters)]
        for name in names:
            if not self.engine.adapters.is_resident(name):
                self.engine.adapters.want(AdapterRef(name, name))
        Driver(self.engine).run()

    def prompt(self, tokens: int) -> list[int]:
        """Random tokens, new ones each time so that no prefix cache helps."""
        self.seed += 1
        source = random.Random(self.seed)
        return [source.randrange(100, self.vocab_size - 100) for _ in range(tokens)]

    def _of(self, case: Case, stream: int) -> str | None:
        return self.adapter(stream % case.adapters) if case.adapters else None


def _after(steps: int) -> Callable[[], bool]:
    """Whether it has been asked so many times."""
    left = iter(range(steps))
    return lambda: next(left, None) is None


def zipf(count: int, requests: int, *, seed: int = 0) -> list[int]:
    """Numbers below `count`, the n-th as often as 1 / n (exponent 1.0)."""
    weights = [1 / (number + 1) for number in range(count)]
    return random.Random(seed).choices(range(count), weights, k=requests)
