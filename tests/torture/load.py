"""Many streams over many adapters for a while: what became of each, and how long it took.

`python -m tests.torture.load SECONDS` prints the figures of docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from server.settings import EngineOptions
from tests.torture.site import Outcome, make_settings, server_process, stream

NUM_ADAPTERS = 64
NUM_STREAMS = 256
NUM_TOKENS = 8
ENGINE = EngineOptions(device="cpu", kv_memory=16 << 20, max_rank=8, max_slots=16)


@dataclass(frozen=True)
class Soak:
    """All outcomes of one run, and the server's resident memory (seconds, bytes) meanwhile."""

    outcomes: Sequence[Outcome]
    memory: Sequence[tuple[float, int]]

    @property
    def ends(self) -> Counter[str]:
        return Counter(outcome.end for outcome in self.outcomes)

    @property
    def slope(self) -> float:
        """Bytes a second by which memory grew over the second half, by least squares."""
        half = self.memory[len(self.memory) // 2 :]
        times, sizes = np.array(half).T
        return float(np.polyfit(times, sizes, 1)[0])

    def percentiles(self, *adapters: str) -> tuple[list[float], list[float]]:
        """p50, p95 and p99 of seconds to the first text, and in all; of some adapters, or any."""
        done = [
            o for o in self.outcomes if o.end == "done" and o.adapter in (adapters or [o.adapter])
        ]
        points = (50, 95, 99)
        return (
            [float(np.percentile([each.first for each in done], point)) for point in points],
            [float(np.percentile([each.total for each in done], point)) for point in points],
        )


async def soak(url: str, pid: int, adapters: Sequence[str], seconds: float) -> Soak:
    """Keep a stream open for each entry of `adapters`, one after the other, for so long."""
    outcomes: list[Outcome] = []
    memory: list[tuple[float, int]] = []
    end = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def keep_asking(adapter: str) -> None:
            while time.monotonic() < end:
                outcome = await stream(client, adapter, NUM_TOKENS)
                outcomes.append(outcome)
                if outcome.retry_after is not None:
                    await asyncio.sleep(outcome.retry_after)

        async def watch() -> None:
            while time.monotonic() < end:
                memory.append((time.monotonic(), resident(pid)))
                await asyncio.sleep(seconds / 100)

        await asyncio.gather(watch(), *(keep_asking(adapter) for adapter in adapters))
    return Soak(outcomes, memory)


def resident(pid: int) -> int:
    """A process's resident memory, in bytes; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS")), 0)


def main() -> None:
    """All alike; then three adapters alone; then beside one that is asked 100 times as much."""
    seconds = float(sys.argv[1])
    names = [f"a{number}" for number in range(NUM_ADAPTERS)]
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(Path(folder), names, ENGINE)
        with server_process(settings) as (url, process):
            everybody = list(itertools.islice(itertools.cycle(names), NUM_STREAMS))
            guests = ["a1", "a2", "a3"]
            for title, adapters in (
                ("warming up", everybody),
                (f"{NUM_STREAMS} streams over {NUM_ADAPTERS} adapters", everybody),
                ("three adapters, a stream each", guests),
                (
                    "the same beside 100 streams over 60 adapters",
                    [*guests, *(everybody[4:64] * 2)[:100]],
                ),
                ("the same beside 100 streams of one adapter", [*guests, *["a0"] * 100]),
            ):
                print_figures(title, asyncio.run(soak(url, process.pid, adapters, seconds)), guests)


def print_figures(title: str, run: Soak, guests: Sequence[str]) -> None:
    print(title, dict(run.ends), f"memory {run.slope / 1024:+.1f} KiB/s")
    for who, (first, total) in (
        ("everybody", run.percentiles()),
        ("the three", run.percentiles(*guests)),
    ):
        print(f"  {who} p50/p95/p99: first text {np.round(first, 3)}, all {np.round(total, 3)} s")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
