"""A scheduler whose steps compute nothing, for tests of what it lets run."""

from __future__ import annotations

import itertools
from collections import Counter

from server.engine.batch import Batch
from server.engine.detokenizer import Detokenizer
from server.engine.fair_time import FairTime
from server.engine.kv_cache import BlockPool
from server.engine.request import AdapterRef, GenerationRequest, SamplingParams
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence

SIZE = 4
_arrivals = itertools.count()


class Door:
    """Adapters that are ready or not, and how many sequences use each."""

    def __init__(self, *ready: str) -> None:
        self.ready = list(ready)
        self.wanted: list[str] = []
        self.expected: list[str] = []
        self.users: Counter[str] = Counter()

    def enter(self, adapter: AdapterRef) -> int | None:
        if adapter.digest not in self.ready:
            self.wanted.append(adapter.digest)
            return None
        self.users[adapter.digest] += 1
        return self.ready.index(adapter.digest)

    def leave(self, digest: str) -> None:
        self.users[digest] -= 1
        assert self.users[digest] >= 0

    def expect(self, adapter: AdapterRef) -> None:
        self.expected.append(adapter.digest)

    def unwant(self, digest: str) -> None:
        self.wanted = [wanted for wanted in self.wanted if wanted != digest]


class Run:
    """A scheduler whose model always says the next number."""

    def __init__(
        self,
        door: Door | None = None,
        *,
        blocks: int = 50,
        max_batch: int = 8,
        chunk: int = 8,
        lone_chunk: int | None = None,
        patience: int = 0,
        fair_time: FairTime | None = None,
    ) -> None:
        self.door = door or Door("a", "b")
        self.pool = BlockPool(blocks + 1, SIZE)
        self.scheduler = Scheduler(
            self.pool,
            self.door,
            max_batch=max_batch,
            chunk=chunk,
            lone_chunk=lone_chunk,
            patience=patience,
            fair_time=fair_time,
        )
        self._tokens = itertools.count(1000)

    def add(
        self,
        num_prompt: int,
        adapter: str | AdapterRef | None = None,
        *,
        first: int = 0,
        scope: str = "",
    ) -> Sequence:
        """A waiting sequence whose prompt is first, first + 1, …"""
        ref = AdapterRef(adapter, adapter) if isinstance(adapter, str) else adapter
        prompt = tuple(range(first, first + num_prompt))
        request = GenerationRequest("request", prompt, SamplingParams(), ref, prefix_scope=scope)
        detokenizer = Detokenizer(lambda _: "")
        sequence = Sequence(request, detokenizer, arrival=next(_arrivals))
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> Batch:
        batch = self.scheduler.next()
        sequences = {chunk.sequence for chunk in batch.chunks}
        assert sequences <= set(self.scheduler.running)
        assert len(sequences) == len(batch.chunks)
        self.scheduler.settle(batch, [next(self._tokens) for _ in batch.sampling])
        self.check()
        return batch

    def check(self) -> None:
        """Nothing leaks, nothing is used twice."""
        running, waiting = self.scheduler.running, list(self.scheduler.waiting)
        held = {block for sequence in running for block in sequence.blocks}
        assert self.pool.num_free == self.pool.num_usable - len(held)
        self.pool.check()
        preempted = [sequence for sequence in waiting if sequence.was_admitted]
        entered = [s.adapter_digest for s in running + preempted if s.adapter_digest]
        assert +self.door.users == Counter(entered)
        assert not set(running) & set(waiting)
        assert self.scheduler.waiting.accounts == Counter(s.account for s in waiting)
        assert all(sequence.blocks == [] for sequence in waiting)
        assert all(s.slot is None for s in waiting if not s.was_admitted)


def prefilled(batch: Batch) -> list[tuple[Sequence, int]]:
    return [(chunk.sequence, chunk.num_tokens) for chunk in batch.prefilling]


def decoded(batch: Batch) -> list[Sequence]:
    return [chunk.sequence for chunk in batch.decoding]
