"""What a server holds and does while it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
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


def device_memory() -> int:
    """What is in use on the first CUDA device to be seen, in bytes; 0 where there is none."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    query.append(f"--id={first}")
    if shutil.which(query[0]) is None:
        return 0
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return int(done.stdout) << 20 if done.stdout.strip().isdigit() else 0


async def watch(url: str, pid: int, *, until: float, every: float) -> list[Sample]:
    """Samples until then (monotonic), so many seconds apart."""
    samples: list[Sample] = []
    while time.monotonic() < until:
        queue = await asyncio.to_thread(_queue, url)
        device = await asyncio.to_thread(device_memory)
        places = queue["running"], queue["waiting"]
        samples.append(Sample(time.monotonic(), resident(pid), *places, device))
        await asyncio.sleep(every)
    return samples


def _queue(url: str) -> dict[str, int]:
    with urlopen(f"{url}/debug/state", timeout=60) as reply:
        queue: dict[str, int] = json.load(reply)["queue"]
    return queue
