"""What a device's engine is measured at, one method a figure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from server.bench.device_work import DeviceWork
from server.bench.driving import Driver, after
from server.bench.workload import PROMPT_TOKENS, Case
from server.engine.engine import Engine

ROUNDS = 2  # the best one counts
ATTEMPTS = 7  # the median counts


@dataclass
class DeviceCases:
    """Measures one engine. adapter: a name for the number of an adapter."""

    engine: Engine
    vocab_size: int
    work: DeviceWork = field(default_factory=DeviceWork)
    adapter: Callable[[int], str] = "bench{}".format
    seed: int = 0

    def decode(self, case: Case) -> float:
        """Tokens per second over the batch, prefill excluded."""
        self.make_resident(case.adapters)
        short, long = self.work.short, self.work.long
        best = min(self.seconds(case, long) - self.seconds(case, short) for _ in range(ROUNDS))
        return case.streams * (long - short) / best

    def seconds(self, case: Case, count: int, *, tokens: int = PROMPT_TOKENS) -> float:
        """Until every stream of prompts of so many tokens has said `count`."""
        prompts = [self.prompt(tokens) for _ in range(case.streams)]
        driver = Driver(self.engine)
        started = time.perf_counter()
        for stream, prompt in enumerate(prompts):
            driver.submit(prompt, self.name_of(case, stream), count)
        driver.run()
        return time.perf_counter() - started

    def prefill(self) -> float:
        """Prompt tokens per second of several whole prompts."""
        case, tokens = self.work.prefill, self.work.prefill_tokens
        self.make_resident(case.adapters)
        seconds = [self.seconds(case, 1, tokens=tokens) for _ in range(ROUNDS + 1)]
        return case.streams * tokens / min(seconds)

    def first_token(self, tokens: int, adapter: str | None, *, rest: float = 0.0) -> float:
        """Seconds from submission to the first token of a lone prompt, `rest` after the last."""
        seconds = []
        for _ in range(ATTEMPTS):
            time.sleep(rest)
            seconds.append(self.first_token_once(tokens, adapter))
        return sorted(seconds)[len(seconds) // 2]

    def first_token_once(self, tokens: int, adapter: str | None) -> float:
        driver, prompt = Driver(self.engine), self.prompt(tokens)
        started = time.perf_counter()
        request_id = driver.submit(prompt, adapter, 1)
        driver.run()
        return driver.arrivals[request_id][0] - started

    def throughput(self, names: Sequence[str]) -> float:
        """Generated tokens per second of many requests, so many at a time."""
        work = self.work
        driver = Driver(self.engine)
        waiting = list(names)[::-1]
        running: list[str] = []
        started = time.perf_counter()
        while waiting or running:
            running = [i for i in running if len(driver.arrivals[i]) < work.request_tokens]
            while waiting and len(running) < work.concurrent:
                prompt = self.prompt(PROMPT_TOKENS)
                running.append(driver.submit(prompt, waiting.pop(), work.request_tokens))
            driver.run(until=after(1))
        driver.run()
        return len(names) * work.request_tokens / (time.perf_counter() - started)

    def make_resident(self, adapters: int) -> None:
        """Have the first adapters in slots, by using each: so others are the first to leave."""
        driver = Driver(self.engine)
        for number in range(adapters):
            driver.submit(self.prompt(1), self.adapter(number), 1)
        driver.run()

    def prompt(self, tokens: int) -> list[int]:
        """Random tokens, new ones each time so that no prefix cache helps."""
        self.seed += 1
        source = random.Random(self.seed)
        return [source.randrange(100, self.vocab_size - 100) for _ in range(tokens)]

    def name_of(self, case: Case, stream: int) -> str | None:
        return self.adapter(stream % case.adapters) if case.adapters else None


def zipf(count: int, requests: int, *, seed: int = 0) -> list[int]:
    """Numbers below `count`, the n-th as often as 1 / n (exponent 1.0)."""
    weights = [1 / (number + 1) for number in range(count)]
    return random.Random(seed).choices(range(count), weights, k=requests)
