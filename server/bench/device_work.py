"""How much is asked of a device's engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from server.bench.workload import Case
from server.engine.config import EngineSettings

SMALL, LARGE = 8, 64
"""Ranks that stand beside each other in a batch."""
PREFILL, DISTURBED, RANKED, SERVED = Case(8, 8), Case(32, 16), Case(32, 32), Case(64, 64)


@dataclass(frozen=True)
class DeviceWork:
    """The work of the performance targets; tests ask for less.

    speeds, apart: what is decoded, and whose steps are pulled apart. short, long: generated tokens,
    between which a decoding speed is taken. prefill: whole prompts of `prefill_tokens` at once.
    first_tokens: lengths of lone prompts, one right behind the other, and again with `rest` seconds
    between them, after which a device's clocks are not held down by its power. num_adapters: how
    many there are of each rank, more than slots. moved: how many are swapped, and how many come
    from disk. disturbed: what runs for `disturbed_tokens` while others come and go. requests: of a
    mix, `concurrent` at a time, `request_tokens` each. ranked: what runs with every mix of ranks.
    served: what comes over HTTP, its speed taken between two numbers of generated tokens.
    """

    speeds: tuple[Case, ...] = (
        Case(1, 0),
        Case(1, 1),
        Case(16, 16),
        Case(64, 1),
        Case(64, 64),
        Case(128, 64),
    )
    apart: tuple[Case, ...] = (Case(1, 1), Case(16, 16), Case(64, 64))
    short: int = 8
    long: int = 136
    prefill: Case = PREFILL
    prefill_tokens: int = 1024
    first_tokens: tuple[int, ...] = (128, 1024)
    rest: float = 0.2
    num_adapters: int = 200
    moved: int = 12
    disturbed: Case = DISTURBED
    disturbed_tokens: int = 390
    requests: int = 384
    concurrent: int = 64
    request_tokens: int = 64
    ranked: Case = RANKED
    served: Case = SERVED
    served_tokens: tuple[int, int] = (64, 320)


def device_settings() -> EngineSettings:
    """64 slots of rank 64 on a CUDA device, and host memory for all adapters of the usual rank."""
    return replace(
        EngineSettings.on("cuda"),
        max_slots=64,
        max_rank=LARGE,
        kv_memory=24 * 2**30,
        host_memory=18 * 2**30,
        weights="nf4",
    )
