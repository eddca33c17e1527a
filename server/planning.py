"""`hatstand plan`: the engine's own division of a device's memory, as a table."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from registry.base_sources import bases_in, find_record
from registry.bases import BaseRecord, find_base, pulled_bases
from registry.errors import BaseNotFound, RegistryError
from registry.homes import default_registry
from registry.hub import SCHEME
from registry.opening import is_remote, open_registry
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
    registry: str | None = None,
    as_json: bool = False,
    console: Console | None = None,
) -> Plan:
    """Print how a server would divide `gpu_memory` bytes; StartupError if it does not fit."""
    config = _shape(base, registry)
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


def _shape(base: str, registry: str | None) -> ModelConfig:
    """The base's shape, from a config.json or from a record: no weights are read or fetched."""
    try:
        if base.startswith(SCHEME):
            return _recorded_shape(find_record(base))
        with contextlib.suppress(BaseNotFound):
            return ModelConfig.read(find_base(base))
        return _known_shape(base, registry or str(default_registry()))
    except RegistryError as error:
        raise StartupError(error.message) from error


def _known_shape(base: str, registry: str) -> ModelConfig:
    """The shape of a base that adapters in the registry were trained on."""
    known = _known_bases(registry)
    for record in known:
        if base in (record.name, record.source):
            return _recorded_shape(record)
    pulled = ", ".join(folder.name for folder in pulled_bases()) or "none"
    names = ", ".join(dict.fromkeys(record.name for record in known)) or "none"
    raise StartupError(
        f"no base {base!r}. Give a folder that holds its config.json (weights need not be there), "
        f"hf://org/name, the name of a pulled base ({pulled}), or of one that adapters in the "
        f"registry {registry} were trained on ({names})."
    )


def _known_bases(registry: str) -> list[BaseRecord]:
    """None in a folder that is not there: opening it would begin a registry."""
    if not is_remote(registry) and not Path(registry).expanduser().is_dir():
        return []
    with contextlib.closing(open_registry(registry)) as opened:
        return bases_in(opened)


def _recorded_shape(record: BaseRecord) -> ModelConfig:
    # Records leave out what no tensor's shape depends on.
    return ModelConfig.from_dict({"rms_norm_eps": 1e-5, **record.config})


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
