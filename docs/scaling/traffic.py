"""Who asks for what, and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(eq=False)
class Request:
    """One request on its way. Times are seconds of the simulation."""

    adapter: int
    prompt_tokens: int
    answer_tokens: int
    arrived: float
    caller: int = 0  # of those who ask again when they are answered
    prompt_left: int = 0
    first_token: float = 0.0
    asked: float = 0.0  # when its caller sent it

    def __post_init__(self) -> None:
        self.prompt_left = self.prompt_tokens


@dataclass(frozen=True)
class Traffic:
    """Adapters by Zipf's law; answers of exponential length where `is_varied`, else all alike."""

    num_adapters: int
    zipf: float
    prompt_tokens: int
    answer_tokens: int
    is_varied: bool = True

    @property
    def popularity(self) -> np.ndarray:
        """The share of requests that each adapter gets, the most asked for first."""
        weights = 1 / np.arange(1, self.num_adapters + 1) ** self.zipf
        return np.asarray(weights / weights.sum())

    def requests(self, chance: np.random.Generator, rate: float) -> Iterator[Request]:
        """Poisson arrivals, `rate` a second on average; without end."""
        now = 0.0
        while True:
            for adapter, gap, length in zip(
                self.adapters(chance, 4096),
                chance.exponential(1 / rate, 4096),
                self._lengths(chance, 4096),
                strict=True,
            ):
                now += gap
                yield Request(int(adapter), self.prompt_tokens, int(length), now)

    def asked_by(self, caller: int) -> Iterator[int]:
        """The adapters that one caller asks for, one after the other; the same ones every time."""
        chance = np.random.default_rng((self.num_adapters, caller))
        while True:
            yield from map(int, self.adapters(chance, 4096))

    def adapters(self, chance: np.random.Generator, count: int) -> np.ndarray:
        return np.asarray(chance.choice(self.num_adapters, count, p=self.popularity))

    def _lengths(self, chance: np.random.Generator, count: int) -> np.ndarray:
        if not self.is_varied:
            return np.full(count, self.answer_tokens)
        lengths = chance.exponential(self.answer_tokens, count).astype(int)
        return np.asarray(np.maximum(2, lengths))
