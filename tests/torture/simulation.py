"""The engine under load with a clock of its own: `python -m tests.torture.simulation [SECONDS]`.

Engine, scheduler and residency are the real ones; a step computes nothing and takes as long as the
model says. So what many clients see over minutes is known in seconds, and always the same.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np

from server.engine.batch import Batch
from server.engine.config import EngineSettings
from server.engine.engine import Engine, EngineParts
from server.engine.executor import Outcome
from server.engine.kv_cache import BlockPool
from server.engine.request import AdapterRef, GenerationDelta, GenerationRequest, SamplingParams
from server.engine.sampled import Sampled
from server.engine.slots import PackedAdapter
from server.errors import QueueFull, ServingError
from server.residency.residency import Residency

LOAD_POLL = 0.002  # seconds between the engine's looks at loads, as in its worker
VOCABULARY = 1000
FIRST_STEPS = 20.0  # seconds that are not counted


@dataclass
class Clock:
    """Seconds that pass when somebody says so."""

    now: float = 1000.0


@dataclass(frozen=True)
class Cost:
    """Seconds of a step: always, for each row that decodes, for a pass over prompts and each of
    its tokens. lookahead: steps that are launched before the oldest is read.
    """

    step: float
    row: float
    prompt: float = 0.0
    prompts: float = 0.0
    lookahead: int = 0

    def of(self, batch: Batch) -> float:
        prompts = sum(chunk.num_tokens for chunk in batch.prefilling)
        beside = self.prompts + self.prompt * prompts if prompts else 0.0
        return self.step + self.row * len(batch.decoding) + beside


CPU = Cost(0.008, 0.0007, 0.0004)
H200 = Cost(0.005, 0.00002, 0.000025)


@dataclass
class Stopwatch:
    """An executor that only lets time pass; steps run one after the other beside the host."""

    clock: Clock
    cost: Cost
    vocab_size: int = VOCABULARY
    weight_bytes: int = 0
    ready: float = 0.0  # when the newest step is done

    @property
    def lookahead(self) -> int:
        return self.cost.lookahead

    def launch(self, batch: Batch) -> Outcome:
        self.ready = ready = max(self.ready, self.clock.now) + self.cost.of(batch)

        def outcome() -> list[Sampled]:
            self.clock.now = max(self.clock.now, ready)
            return [Sampled(1) for _ in batch.sampling]

        return outcome


@dataclass(frozen=True)
class Shelf:
    """Slots that hold nothing; and where adapters come from at once."""

    num_slots: int

    def write(self, slot: int, adapter: object) -> None:
        """Nothing is there to be written."""

    def has_arrived(self, slot: int) -> bool:  # noqa: ARG002
        return True

    def load(self, adapter: AdapterRef) -> PackedAdapter:
        return PackedAdapter(adapter.digest, adapter.label, 8, {})


class Letters:
    """A tokenizer of one text."""

    eos_token_ids: frozenset[int] = frozenset()

    def decode(self, token_ids: Sequence[int]) -> str:
        return "x" * len(token_ids)

    decode_all = decode

    def token_text(self, token_id: int) -> str:  # noqa: ARG002
        return "x"


@dataclass(frozen=True)
class Load:
    """Who asks for what: a client for each entry of `adapters`, who asks again at once.

    pause: seconds that a client takes until its next question, on average. spread: the part of
    num_tokens by which answers are longer or shorter.
    """

    adapters: Sequence[str]
    num_prompt: int = 3
    num_tokens: int = 8
    pause: float = 0.005
    spread: float = 0.0


@dataclass
class Seen:
    """What clients of one adapter saw, in seconds."""

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)


@dataclass
class Client:
    adapter: str
    asked_at: float = 0.0
    newest: float = 0.0
    came_back: bool = False
    number: int = 0  # of the question, which stays the same until it is answered


@dataclass
class Simulation:
    """One run: `run` returns what was seen, by adapter."""

    load: Load
    settings: EngineSettings
    cost: Cost
    clock: Clock = field(default_factory=Clock)
    seen: dict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._ids = itertools.count()
        self._chance = random.Random(0)
        self._clients: dict[str, Client] = {}
        self._due: list[tuple[float, int, Client]] = []
        shelf = Shelf(self.settings.max_slots)
        self._residency = Residency(shelf, shelf, host_memory=1 << 30)
        self.engine = Engine(
            EngineParts(
                executor=Stopwatch(self.clock, self.cost),
                blocks=BlockPool(100_000, self.settings.block_size),
                adapters=self._residency,
                tokenizer=Letters(),
                settings=self.settings,
                max_context=4096,
                clock=lambda: self.clock.now,
            )
        )

    def run(self, seconds: float) -> Simulation:
        began = self.clock.now
        self._counted_from = began + min(FIRST_STEPS, seconds / 4)
        with self._own_time():
            for number, adapter in enumerate(self.load.adapters):
                self._come(Client(adapter), began + number * 0.001)
            try:
                while self.clock.now < began + seconds:
                    self._ask()
                    self._wait_for_loads()
                    if not self.engine.step(self._take):
                        self.clock.now += LOAD_POLL
            finally:
                self._residency.stop()
        return self

    @contextmanager
    def _own_time(self) -> Iterator[None]:
        with patch("time.monotonic", lambda: self.clock.now):
            yield

    def _wait_for_loads(self) -> None:
        for future in list(self._residency._newcomers._loader._futures.values()):
            future.exception()

    def _come(self, client: Client, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._ids), client))

    def _ask(self) -> None:
        while self._due and self._due[0][0] <= self.clock.now:
            at, number, client = heapq.heappop(self._due)
            client.asked_at = at
            request_id = str(number)
            self._clients[request_id] = client
            adapter = AdapterRef(client.adapter, client.adapter)
            if not client.came_back:
                client.number = number
            prompt = (client.number % VOCABULARY, *range(1, self.load.num_prompt))
            params = SamplingParams(max_tokens=self._length(), ignore_eos=True)
            try:
                self.engine.add(GenerationRequest(request_id, prompt, params, adapter))
            except QueueFull as full:
                self._take(request_id, full)

    def _length(self) -> int:
        spread = self.load.spread
        return round(self.load.num_tokens * self._chance.uniform(1 - spread, 1 + spread))

    def _take(self, request_id: str, outcome: GenerationDelta | ServingError) -> None:
        client = self._clients[request_id]
        now, counts = self.clock.now, self.clock.now > self._counted_from
        seen = self.seen[client.adapter]
        if isinstance(outcome, ServingError):
            del self._clients[request_id]
            if counts:
                self.counts["refused"] += 1
                self.counts["refused again"] += client.came_back
            client.came_back = True
            self._come(client, now + max(1, math.ceil(outcome.retry_after or 0)))
            return
        is_first = outcome.times is not None
        if counts:
            if is_first:
                seen.first.append(now - client.asked_at)
                self.counts["came back"] += client.came_back
            else:
                seen.gaps.append(now - client.newest)
        if is_first:
            client.came_back = False
        client.newest = now
        if outcome.finish_reason is not None:
            del self._clients[request_id]
            if counts:
                seen.total.append(now - client.asked_at)
                self.counts["done"] += 1
            self._come(client, now + self._chance.expovariate(1 / self.load.pause))

    def percentiles(self, *adapters: str) -> str:
        chosen = [self.seen[each] for each in adapters or self.seen]
        lines = []
        for what in ("first", "gaps", "total"):
            values = [value for seen in chosen for value in getattr(seen, what)]
            p = np.percentile(values, (50, 95, 99)) if values else (0, 0, 0)
            lines.append(f"{what} " + " / ".join(f"{each:.3f}" for each in p))
        return "; ".join(lines)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120.0
    names = [f"a{number}" for number in range(64)]
    everybody = list(itertools.islice(itertools.cycle(names), 256))
    settings = EngineSettings(max_slots=16, max_waiting=160)
    began = time.perf_counter()
    run = Simulation(Load(everybody), settings, CPU).run(seconds)
    stats = run.engine.stats()
    print(f"in {time.perf_counter() - began:.1f} s: {dict(run.counts)}")
    print("all:", run.percentiles())
    print(
        "preemptions",
        stats.num_preemptions,
        "evictions",
        stats.num_adapter_evictions,
        "steps",
        stats.num_steps,
    )
    means = [np.mean(seen.first) for seen in run.seen.values()]
    print(f"mean first by adapter {min(means):.2f} to {max(means):.2f}")


if __name__ == "__main__":
    main()
