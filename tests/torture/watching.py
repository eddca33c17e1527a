"""What a server holds and does while it is asked."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen


@dataclass(frozen=True)
class Sample:
    """At a moment (monotonic seconds): resident and device memory (bytes), and the queue."""

    at: float
    resident: int
    running: int
    waiting: int
    device: int = 0


def resident(pid: int) -> int:
    """A process's resident memory, in bytes; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS")), 0)


def serving_process(parent: int) -> int:
    """The process that serves, where its parent only watches over it."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    listed = children.read_text().split() if children.exists() else []
    return int(listed[0]) if listed else parent


async def watch(url: str, pid: int, *, until: float, every: float) -> list[Sample]:
    """Samples until then (monotonic), so many seconds apart."""
    samples: list[Sample] = []
    while time.monotonic() < until:
        queue = await asyncio.to_thread(_queue, url)
        samples.append(Sample(time.monotonic(), resident(pid), queue["running"], queue["waiting"]))
        await asyncio.sleep(every)
    return samples


def _queue(url: str) -> dict[str, int]:
    with urlopen(f"{url}/debug/state", timeout=60) as reply:
        queue: dict[str, int] = json.load(reply)["queue"]
    return queue
