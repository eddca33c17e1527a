"""Replicas, a router and traffic, until the time is over."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .machine import Machine
from .replica import Replica
from .routing import Router
from .traffic import Request, Traffic

NewRouter = Callable[[Sequence[Replica], int], Router]
_ASLEEP = float("inf")


@dataclass(frozen=True)
class Outcome:
    """What a run came to, without its first part. Seconds, and tokens a second over all."""

    tokens_a_second: float
    requests_a_second: float
    ttft: np.ndarray
    hit_rate: float  # requests for which no slot had to be written
    load_rate: float  # adapters read from disk, a request
    steps_a_second: float  # of all engines
    waiting: int  # requests that waited at the end

    def ttft_at(self, percent: float) -> float:
        return float(np.percentile(self.ttft, percent))


class Simulation:
    """Asks a fixed rate of requests, or lets so many callers ask again when they are answered."""

    def __init__(
        self, machine: Machine, num_replicas: int, traffic: Traffic, router: NewRouter, seed: int
    ) -> None:
        self.replicas = [Replica(machine) for _ in range(num_replicas)]
        self._machine = machine
        self._traffic = traffic
        self._router = router(self.replicas, seed)
        self._chance = np.random.default_rng(seed)
        self._wakes = [_ASLEEP] * num_replicas  # when each replica's step ends
        self._events: list[tuple[float, int]] = []  # those ends, soonest first
        self._finished: list[Request] = []

    def fill(self, *, dealt: bool) -> None:
        """Begin with popular adapters in slots: dealt out to the replicas, or the same in all."""
        count = len(self.replicas) if dealt else 1
        for index, replica in enumerate(self.replicas):
            replica.shelf.fill(list(range(index % count, self._traffic.num_adapters, count)))

    def run(self, rate: float, seconds: float, warm_up: float) -> Outcome:
        """An open loop: `rate` requests a second, whatever becomes of them."""
        return self._go(self._sent(rate), seconds, warm_up, again=None)

    def run_callers(self, num_callers: int, seconds: float, warm_up: float) -> Outcome:
        """A closed loop: each asks for the next adapter as soon as it has its answer."""
        asked = [self._traffic.asked_by(caller) for caller in range(num_callers)]
        lengths = self._traffic.prompt_tokens, self._traffic.answer_tokens

        def ask(caller: int, now: float) -> Request:
            arrives = now + self._over_http(num_callers - 1)
            return Request(next(asked[caller]), *lengths, arrives, caller, asked=now)

        first = sorted((ask(each, 0.0) for each in range(num_callers)), key=_arrival)
        return self._go(iter(first), seconds, warm_up, again=ask)

    def _sent(self, rate: float) -> Iterator[Request]:
        """What arrives has been on its way for as long as HTTP takes where nothing else runs."""
        for request in self._traffic.requests(self._chance, rate):
            request.asked = request.arrived - self._machine.speed.request
            yield request

    def _over_http(self, streams: int) -> float:
        """What one request takes to the engine and back; ways differ as gamma distributions do."""
        mean, spread = self._machine.speed.over_http(streams), self._machine.speed.http_spread
        if not spread or not mean:
            return mean
        return float(self._chance.gamma((mean / spread) ** 2, spread**2 / mean))

    def _go(
        self,
        arrivals: Iterator[Request],
        seconds: float,
        warm_up: float,
        again: Callable[[int, float], Request] | None,
    ) -> Outcome:
        marks = None
        coming = next(arrivals, None)
        later: list[tuple[float, int, Request]] = []  # of callers who ask again
        while True:
            arrival = min(
                _ASLEEP if coming is None else coming.arrived, later[0][0] if later else _ASLEEP
            )
            end = self._events[0][0] if self._events else _ASLEEP
            now = min(arrival, end)
            if now > seconds or now == _ASLEEP:
                break
            if marks is None and now >= warm_up:
                marks = self._marks()
            if arrival <= end:
                if coming is not None and coming.arrived == arrival:
                    request, coming = coming, next(arrivals, None)
                else:
                    request = heapq.heappop(later)[2]
                self._ask(request, now)
                continue
            _, index = heapq.heappop(self._events)
            if self._wakes[index] != end:
                continue  # it was woken before
            for answered in self._step(index, now):
                if again is not None:
                    follower = again(answered.caller, self.replicas[index].free_at)
                    heapq.heappush(later, (follower.arrived, id(follower), follower))
        assert marks is not None, "the warm-up was as long as the run"
        return self._outcome(marks, seconds, warm_up)

    def _ask(self, request: Request, now: float) -> None:
        index = self._router.pick(request.adapter, now)
        self.replicas[index].ask(request)
        self._wake(index, max(now, self.replicas[index].free_at))

    def _wake(self, index: int, at: float) -> None:
        if at < self._wakes[index]:
            self._wakes[index] = at
            heapq.heappush(self._events, (at, index))

    def _step(self, index: int, now: float) -> list[Request]:
        """Run the replica's next step. Who is answered at its end?"""
        self._wakes[index] = _ASLEEP
        end, finished = self.replicas[index].step(now)
        if end != _ASLEEP:
            self._wake(index, end)
        self._finished += finished
        return finished

    def _marks(self) -> tuple[int, ...]:
        shelves = [replica.shelf for replica in self.replicas]
        return (
            len(self._finished),
            sum(replica.num_tokens for replica in self.replicas),
            sum(shelf.num_activations for shelf in shelves),
            sum(shelf.num_loads for shelf in shelves),
            sum(replica.num_steps for replica in self.replicas),
        )

    def _outcome(self, before: tuple[int, ...], seconds: float, warm_up: float) -> Outcome:
        requests, tokens, activations, loads, steps = (
            after - then for after, then in zip(self._marks(), before, strict=True)
        )
        length = seconds - warm_up
        answered = self._finished[before[0] :]
        return Outcome(
            tokens_a_second=tokens / length,
            requests_a_second=requests / length,
            ttft=np.array([each.first_token - each.asked for each in answered]),
            hit_rate=1 - activations / max(1, requests),
            load_rate=loads / max(1, requests),
            steps_a_second=steps / length,
            waiting=sum(replica.num_waiting for replica in self.replicas),
        )


def _arrival(request: Request) -> float:
    return request.arrived
