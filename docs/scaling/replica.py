"""One replica, step by step. As server/engine/scheduler.py has it, without KV blocks."""

from __future__ import annotations

from bisect import insort
from collections import Counter, defaultdict, deque
from itertools import islice

from .machine import Machine
from .shelf import Shelf
from .traffic import Request

_EXPECTED = 8  # adapters fetched ahead while the batch is full


class Replica:
    """Decoding rows go first; then prompts that have begun; then whoever's turn it is."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.shelf = Shelf(machine)
        self.lines: dict[int, deque[Request]] = {}  # by adapter, those who wait
        self.num_waiting = 0
        self._prefilling: list[Request] = []
        self._running: Counter[int] = Counter()  # by adapter
        self.num_running = 0
        self.num_steps = 0
        self._ends: dict[int, list[Request]] = defaultdict(list)  # by the step that is their last
        self.num_tokens = 0
        self.free_at = 0.0  # when the step ends that runs

    def ask(self, request: Request) -> None:
        self.lines.setdefault(request.adapter, deque()).append(request)
        self.num_waiting += 1

    def step(self, now: float) -> tuple[float, list[Request]]:
        """Run one step from `now` on: when it ends, and who is answered then.

        The end is infinite where there is nothing to do and nothing is on its way.
        """
        self.shelf.settle(now)
        rows = self.num_running - len(self._prefilling)
        chunk = self.machine.chunk if rows else self.machine.lone_chunk
        done, tokens = self._prefill(chunk, now)
        adapters = len(self._running)
        if not rows and not tokens:
            return self.shelf.next_change(), []
        seconds = self.machine.speed.of_step(rows, adapters, tokens) + self.shelf.stopped
        self.shelf.stopped = 0.0
        self.free_at = now + seconds
        self.num_steps += 1
        self.num_tokens += rows + len(done)
        for request in done:
            request.first_token = self.free_at
            self._ends[self.num_steps + request.answer_tokens - 1].append(request)
        finished = self._ends.pop(self.num_steps, [])
        for request in finished:
            self._finish(request)
        return self.free_at, finished

    def _prefill(self, budget: int, now: float) -> tuple[list[Request], int]:
        """Whose prompts are computed by this step to the end, and how many tokens it takes."""
        taken, done = 0, []
        self._admit(budget - sum(each.prompt_left for each in self._prefilling), now)
        for request in self._prefilling:
            part = min(request.prompt_left, budget - taken)
            request.prompt_left -= part
            taken += part
            if request.prompt_left == 0:
                done.append(request)
        self._prefilling = [each for each in self._prefilling if each.prompt_left]
        return done, taken

    def _admit(self, budget: int, now: float) -> None:
        if not self.num_waiting:
            return
        places = self.machine.max_batch - self.num_running
        heads = sorted((self._turn(line[0]), adapter) for adapter, line in self.lines.items())
        while heads and budget > 0 and places > 0:
            _, adapter = heads.pop(0)
            if not self.shelf.enter(adapter, now):
                continue
            request = self._take(adapter)
            self._prefilling.append(request)
            self._running[adapter] += 1
            self.num_running += 1
            budget -= request.prompt_tokens
            places -= 1
            if adapter in self.lines:
                insort(heads, (self._turn(self.lines[adapter][0]), adapter))
        for _, adapter in islice(heads, _EXPECTED):
            self.shelf.expect(adapter, now)

    def _turn(self, request: Request) -> tuple[int, float]:
        return self._running[request.adapter], request.arrived

    def _take(self, adapter: int) -> Request:
        line = self.lines[adapter]
        request = line.popleft()
        self.num_waiting -= 1
        if not line:
            del self.lines[adapter]
        return request

    def _finish(self, request: Request) -> None:
        self.num_running -= 1
        self._running[request.adapter] -= 1
        if not self._running[request.adapter]:
            del self._running[request.adapter]
        self.shelf.leave(request.adapter)
