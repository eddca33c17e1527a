"""What the server says about itself: probes, /debug/state, /debug/batches."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict


class Health(TypedDict):
    """Whether the engine runs, in words."""

    status: str


class Ready(TypedDict):
    """Whether traffic may come, and why not."""

    status: Literal["ready", "not ready"]
    reasons: list[str]
    warnings: list[str]


class QueueState(TypedDict):
    """Sequences."""

    running: int
    waiting: int
    limit: int


class KvState(TypedDict):
    """Blocks of the KV cache; `usage` from 0 to 1."""

    blocks: int
    free: int
    block_size: int
    usage: float


class Resident(TypedDict):
    """An adapter in memory, and how many sequences run with it."""

    label: str
    digest: str
    level: Literal["slot", "host"]
    rank: int
    pinned: bool
    running: int


class SlotState(TypedDict):
    """Adapters in memory and on their way."""

    total: int
    resident: list[Resident]
    loading: list[str]


class Counters(TypedDict):
    """Since the server's start."""

    steps: int
    prompt_tokens: int
    generated_tokens: int
    prefix_hits: int
    preemptions: int
    adapter_loads: int
    adapter_evictions: int


class Move(TypedDict):
    """An adapter that came or went; `at` in Unix seconds."""

    at: float
    adapter: str
    kind: str


class State(TypedDict):
    """What the machine holds and does. `tokens`: generated, by adapter."""

    base: str
    max_context: int
    warnings: list[str]
    queue: QueueState
    kv: KvState
    slots: SlotState
    counters: Counters
    tokens: dict[str, int]
    moves: list[Move]


class Batches(TypedDict):
    """The newest steps, oldest first: tokens of each adapter that shared the step."""

    num_steps: int
    batches: list[dict[str, int]]
