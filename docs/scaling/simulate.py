"""`python -m docs.scaling.simulate [--quick]`: the tables and pictures of docs/scaling.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from .machine import H200, Machine
from .routing import Anywhere, ByAdapter, Weights
from .simulation import NewRouter, Outcome, Simulation
from .traffic import Traffic

TRAFFIC = Traffic(num_adapters=10_000, zipf=1.0, prompt_tokens=256, answer_tokens=128)
ROUTERS: dict[str, NewRouter] = {
    "random": Anywhere,
    "affinity 3:2:1": partial(ByAdapter, weights=Weights(adapter=3, queue=2, kv=1)),
    "affinity 1:2:1": partial(ByAdapter, weights=Weights(adapter=1, queue=2, kv=1)),
}
REPLICAS = (1, 4, 16, 64)
RATES = (10, 20, 30, 40, 50)
DOLLARS_AN_HOUR = 3.0  # of one GPU: an assumption, to be replaced by yours
STEPS = 40_000  # of all replicas together, in one run: some 4 s


@dataclass(frozen=True)
class Case:
    """One run."""

    replicas: int
    routing: str
    rate: float  # requests a second and replica
    slow_disk: bool = False

    def run(self, steps: int, machine: Machine = H200) -> Outcome:
        if self.slow_disk:
            machine = replace(machine, speed=replace(machine.speed, load=0.1))
        seconds = max(5.0, steps / 150 / self.replicas)
        simulation = Simulation(machine, self.replicas, TRAFFIC, ROUTERS[self.routing], seed=1)
        simulation.fill(dealt=self.routing != "random")
        return simulation.run(self.rate * self.replicas, seconds, warm_up=seconds / 4)


def cases() -> Iterator[Case]:
    for replicas in REPLICAS:
        for routing in ROUTERS if replicas > 1 else ["random"]:
            for rate in RATES:
                yield Case(replicas, routing, rate)
    for routing in ROUTERS:
        yield Case(16, routing, 30, slow_disk=True)


def row(case: Case, outcome: Outcome) -> dict[str, float | str]:
    """A line of the table. Cost is for a million tokens of answers."""
    tokens = outcome.tokens_a_second
    return {
        "replicas": case.replicas,
        "routing": case.routing + (", disk 100 ms" if case.slow_disk else ""),
        "asked": case.rate,
        "answered": outcome.requests_a_second / case.replicas,
        "tokens": tokens / case.replicas,
        "p50": 1e3 * outcome.ttft_at(50),
        "p99": 1e3 * outcome.ttft_at(99),
        "hit": 100 * outcome.hit_rate,
        "loads": 100 * outcome.load_rate,
        "dollars": DOLLARS_AN_HOUR * case.replicas / 3600 / tokens * 1e6,
    }


def _run(case: Case, steps: int) -> dict[str, float | str]:
    return row(case, case.run(steps))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a tenth of the time each")
    options.add_argument("--processes", type=int, default=1)
    options.add_argument("--folder", type=Path, default=None, help="write the pictures there")
    asked = options.parse_args()
    steps = STEPS // 10 if asked.quick else STEPS
    todo = list(cases())
    with ProcessPoolExecutor(asked.processes) as pool:
        rows = []
        for found in pool.map(_run, todo, [steps] * len(todo)):
            rows.append(found)
            print(" | ".join(_shown(value) for value in found.values()), flush=True)
    if asked.folder is not None:
        from .plots import draw

        draw(rows, asked.folder)


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
