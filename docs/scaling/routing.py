"""Which replica a request goes to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .replica import Replica

SCRAPED_EVERY = 0.05  # seconds: what a picker knows may be as old as that


@dataclass(frozen=True)
class Weights:
    """What the picker's configuration gives its scorers."""

    adapter: float
    queue: float
    kv: float


class Router(Protocol):
    def pick(self, adapter: int, now: float) -> int:
        """The replica's index."""
        ...


class Anywhere:
    """Each is as likely."""

    def __init__(self, replicas: Sequence[Replica], seed: int) -> None:
        self._replicas = replicas
        self._chance = random.Random(seed)

    def pick(self, adapter: int, now: float) -> int:  # noqa: ARG002
        return self._chance.randrange(len(self._replicas))


@dataclass(frozen=True)
class Seen:
    """What a replica said of itself when it was asked last."""

    resident: frozenset[int]
    wanted: frozenset[int]
    waiting: int
    load: float  # share of the batch in use, for that of the KV cache

    @classmethod
    def of(cls, replica: Replica) -> Seen:
        return cls(
            frozenset(replica.shelf.tenants),
            frozenset(replica.shelf.wanted),
            replica.num_waiting,
            replica.num_running / replica.machine.max_batch,
        )

    def affinity(self, adapter: int, slots: int) -> float:
        """llm-d's scorer: where it is, where there is room, where it is on its way, elsewhere."""
        if adapter in self.resident:
            return 1.0
        if len(self.resident) + len(self.wanted) < slots:
            return 0.8
        return 0.6 if adapter in self.wanted else 0.0


class ByAdapter:
    """The endpoint picker weighs adapters, queues and KV use, by metrics that it scrapes."""

    def __init__(self, replicas: Sequence[Replica], seed: int, weights: Weights) -> None:
        self._replicas = replicas
        self._weights = weights
        self._chance = random.Random(seed)
        self._scraped = -1.0
        self._seen: list[Seen] = []

    def pick(self, adapter: int, now: float) -> int:
        if now - self._scraped > SCRAPED_EVERY:
            self._scraped, self._seen = now, [Seen.of(replica) for replica in self._replicas]
        slots = self._replicas[0].machine.slots
        queues = [seen.waiting for seen in self._seen]
        longest, spread = max(queues), max(queues) - min(queues)
        scores = [
            self._weights.adapter * seen.affinity(adapter, slots)
            + self._weights.queue * ((longest - seen.waiting) / spread if spread else 1.0)
            + self._weights.kv * (1 - seen.load)
            for seen in self._seen
        ]
        best = max(scores)
        return self._chance.choice([at for at, score in enumerate(scores) if score == best])
