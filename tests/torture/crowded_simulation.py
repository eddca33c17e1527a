"""What one adapter's crowd costs others, in the simulation's time.

`python -m tests.torture.crowded_simulation [SECONDS] [SHARE…]`: adapters with a stream each, beside
a hundred streams of one, against the same beside a single stream of it; on devices of several
costs. Then what shares cost where nobody is to be bound: two crowds, and traffic by Zipf's law.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.engine.config import EngineSettings
from tests.torture.crowding import CROWDED, Crowding
from tests.torture.simulation import CPU, Cost, Load, Seen, Simulation

# So that the rule before this one, under which it was measured on an H200, gives about its figures.
FITTED = Cost(0.0034, 0.00005, 0.000024, 0.001, lookahead=1)
# What steps and passes of the 7B shape were measured to take there: docs/benchmarks.md.
H200 = Cost(0.0028, 0.000035, 0.000026, 0.004, lookahead=1)
SETTINGS = EngineSettings(
    max_slots=64, max_batch=128, chunk=2048, lone_chunk=4096, block_size=32, patience=2
)
CROWD = 100
COUNTED = 3 / 4  # of a run


@dataclass(frozen=True)
class Case:
    """Who asks for what, and what it costs. The guests' answers vary in length by `spread`."""

    name: str
    cost: Cost
    settings: EngineSettings
    num_guests: int
    num_prompt: int
    num_tokens: int
    pause: float = 0.006
    spread: float = 0.3

    def load(self, adapters: Sequence[str]) -> Load:
        return Load(adapters, self.num_prompt, self.num_tokens, self.pause, self.spread)

    def run(self, adapters: Sequence[str], share: float, seconds: float) -> Simulation:
        settings = replace(self.settings, adapter_share=share)
        return Simulation(self.load(adapters), settings, self.cost).run(seconds)

    def crowding(self, num_crowd: int, share: float, seconds: float) -> Crowding:
        """What the guests see beside so many streams of one adapter."""
        guests = [f"a{number + 1}" for number in range(self.num_guests)]
        seen = self.run([*guests, *[CROWDED] * num_crowd], share, seconds).seen
        of_guests = [seen[name] for name in guests]
        return Crowding(
            first=[value for each in of_guests for value in each.first],
            between=[value for each in of_guests for value in each.gaps],
            whole=[value for each in of_guests for value in each.total],
            crowd_tokens=num_tokens(seen[CROWDED]) / (COUNTED * seconds),
        )


CASES = (
    Case("H200, fitted, in step", FITTED, SETTINGS, 16, 120, 64, spread=0.0),
    Case("H200, fitted", FITTED, SETTINGS, 16, 120, 64),
    Case("H200", H200, SETTINGS, 16, 120, 64),
    Case("H200, pauses of 0.1 s", H200, SETTINGS, 16, 120, 64, pause=0.1),
    Case("H200, one guest", H200, SETTINGS, 1, 120, 64),
    Case("CPU, three guests", CPU, EngineSettings(max_slots=64), 3, 3, 8),
    Case("CPU, sixteen guests", CPU, EngineSettings(max_slots=64), 16, 3, 8),
)


def num_tokens(seen: Seen) -> int:
    return len(seen.first) + len(seen.gaps)


def throughput(case: Case, adapters: Sequence[str], share: float, seconds: float) -> float:
    """Tokens a second of everybody."""
    seen = case.run(adapters, share, seconds).seen
    return sum(map(num_tokens, seen.values())) / (COUNTED * seconds)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    shares = [float(each) for each in sys.argv[2:]] or [1.0, 0.125]
    for case in CASES:
        few = case.crowding(1, shares[-1], seconds)
        print(few.line(f"{case.name}: beside 1 of one", few))
        for share in shares:
            print(case.crowding(CROWD, share, seconds).line(f"  share {share:g}: beside 100", few))
    names = [f"z{number}" for number in range(64)]
    zipf = random.Random(1).choices(names, [1 / (rank + 1) for rank in range(64)], k=256)
    for title, adapters in (("two crowds", ["a", "b"] * CROWD), ("Zipf over 64 adapters", zipf)):
        for case in (CASES[2], CASES[-1]):
            rates = [f"{throughput(case, adapters, share, seconds):.0f}" for share in shares]
            print(f"{title}, {case.name}, tokens a second by share:", ", ".join(rates))


if __name__ == "__main__":
    main()
