"""`hatstand plan`: the engine's own division of a device's memory, as a table."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from registry.bases import find_base
from registry.errors import RegistryError
from server.engine.config import EngineSettings, ModelConfig
from server.engine.planner import GIB, Plan, plan
from server.errors import StartupError


def print_plan(
    base: str,
    *,
    gpu_memory: int,
    adapters: int,
    rank: int,
    context: int | None,
    shadow: bool,
    as_json: bool = False,
    console: Console | None = None,
) -> Plan:
    """Print how a server would divide `gpu_memory` bytes; StartupError if it does not fit."""
    config = ModelConfig.read(_folder(base))
    settings = replace(
        EngineSettings.on("cuda"),
        max_slots=adapters,
        max_rank=rank,
        weights="nf4-shadow" if shadow else "nf4",
    )
    made = plan(config, settings, int(gpu_memory * settings.utilisation))
    length = context or config.max_context
    if as_json:
        print(json.dumps(_document(made, settings, length), indent=2))
    else:
        (console or Console()).print(_table(made, settings, length))
    return made


def _document(made: Plan, settings: EngineSettings, context: int) -> dict[str, Any]:
    """The table's figures: bytes by purpose, tokens, sequences."""
    return {
        **asdict(made),
        "adapters": settings.max_slots,
        "rank": settings.max_rank,
        "kv_tokens": made.kv_tokens,
        "context": context,
        "sequences": made.kv_tokens // context,
    }


def _folder(base: str) -> Path:
    try:
        return find_base(base)
    except RegistryError as error:
        raise StartupError(error.message) from error


def _table(made: Plan, settings: EngineSettings, context: int) -> Table:
    table = Table(show_header=False)
    slots = f"{settings.max_slots} adapters of rank {settings.max_rank}"
    for name, value in (
        (f"memory to use ({settings.utilisation:.0%} of the device's)", made.memory),
        ("weights", made.weights),
        (slots, made.slots),
        ("workspace", made.workspace),
        ("recorded steps", made.graphs),
        ("KV cache", made.kv),
    ):
        table.add_row(name, f"{value / GIB:.2f} GiB")
    table.add_row("tokens in the cache", f"{made.kv_tokens:,}")
    table.add_row(f"sequences of {context:,} tokens at once", f"{made.kv_tokens // context:,}")
    return table
