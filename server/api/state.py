"""GET /debug/state: what the console's page about the machine shows, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.engine.request import EngineStats, ResidentAdapter

from .documents.status import Counters, Resident, State
from .permission import may_see
from .ports import Base


def state_document(
    base: Base, stats: EngineStats, tokens: Mapping[str, int], warnings: Sequence[str]
) -> State:
    """Queue, KV blocks, slots and who sits in them, counters since the start, newest moves.

    Without the adapters that the request's key may not name.
    """
    return {
        "base": base.name,
        "max_context": stats.max_context or base.max_context,
        "warnings": list(warnings),
        "queue": {
            "running": stats.num_running,
            "waiting": stats.num_waiting,
            "limit": stats.max_waiting,
        },
        "kv": {
            "blocks": stats.num_blocks,
            "free": stats.num_free_blocks,
            "block_size": stats.block_size,
            "usage": stats.kv_usage,
        },
        "slots": {
            "total": stats.max_slots,
            "resident": [_resident(each) for each in stats.resident if may_see(each.label)],
            "loading": [each.label for each in stats.loading if may_see(each.label)],
        },
        "counters": _counters(stats),
        "tokens": {label: count for label, count in tokens.items() if may_see(label)},
        "moves": [
            {"at": move.at, "adapter": move.label, "kind": move.kind}
            for move in stats.recent_moves
            if may_see(move.label)
        ],
    }


def _resident(adapter: ResidentAdapter) -> Resident:
    return {
        "label": adapter.label,
        "digest": adapter.digest,
        "level": adapter.level,
        "rank": adapter.rank,
        "pinned": adapter.pinned,
        "running": adapter.num_running,
    }


def _counters(stats: EngineStats) -> Counters:
    return {
        "steps": stats.num_steps,
        "prompt_tokens": stats.num_prompt_tokens,
        "generated_tokens": stats.num_generated_tokens,
        "prefix_hits": stats.num_prefix_hits,
        "preemptions": stats.num_preemptions,
        "adapter_loads": stats.num_adapter_loads,
        "adapter_evictions": stats.num_adapter_evictions,
    }
