"""What each optional mode costs and brings on one device: `python -m tests.gpu.bench_modes`.

Options: the number of layers (32), and modes (all). Speeds are those of `bench_engine`; logits are
compared with the exact mode's on the same weights, adapters and texts.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from server.bases import Base
from server.bench.device_cases import DeviceCases
from server.bench.device_work import DeviceWork, device_settings
from server.bench.workload import Case
from server.engine.build import build_engine
from server.engine.config import EngineSettings
from server.engine.engine import Engine
from tests.gpu.nf4_base import write_nf4_base, write_random_adapter
from tests.gpu.seven_b import prompt
from tests.gpu.shapes import MISTRAL_7B, open_unhashed
from tests.support.distance import Distance, num_comparable
from tests.support.serving import Driver, FolderSource
from tests.support.witness import SEEN, Witness

EXACT = replace(device_settings(), kv_memory=5 * 2**30, host_memory=2 * 2**30)
MODES: Mapping[str, EngineSettings] = {
    "exact": EXACT,
    "fast": replace(EXACT, gemm="fast"),
    "batch-invariant": replace(EXACT, gemm="batch-invariant"),
    "fp8 KV": replace(EXACT, fp8_kv=True),
    "bf16 copy": replace(EXACT, weights="nf4-shadow"),
}
WORK = DeviceWork(long=72, speeds=(Case(1, 1), Case(16, 16), Case(64, 64), Case(128, 64)))
SEQUENCES, TOLD = 24, 8  # whose logits are compared


@dataclass
class Measured:
    """One mode's figures; speeds in tokens per second by case, memory in bytes."""

    start: float
    speeds: dict[str, float]
    allocated: int
    kv_tokens: int
    logits: list[torch.Tensor]


def measure(base: Base, adapter: Path, settings: EngineSettings) -> Measured:
    started = time.perf_counter()
    folders = {f"bench{number}": adapter for number in range(settings.max_slots)}
    engine = build_engine(base, FolderSource(folders, base), settings)
    torch.cuda.synchronize()
    start = time.perf_counter() - started
    cases = DeviceCases(engine, base.config.vocab_size, WORK)
    speeds = {case.label: cases.decode(case) for case in WORK.speeds}
    speeds["prefill"] = cases.prefill()
    stats, logits = engine.stats(), told(engine)
    engine.adapters.stop()
    allocated = torch.cuda.memory_allocated()
    return Measured(start, speeds, allocated, stats.num_blocks * stats.block_size, logits)


def told(engine: Engine) -> list[torch.Tensor]:
    """Logits [tokens, vocab] of the same prompts in every mode."""
    witness, driver = Witness(engine), Driver(engine)
    ids = [
        driver.submit(
            prompt(n, 30 + 11 * n), f"bench{n}" if n % 3 else None, max_tokens=TOLD, **SEEN
        )
        for n in range(SEQUENCES)
    ]
    driver.run()
    assert not driver.errors
    return [witness.logits(request_id) for request_id in ids]


def distance(found: list[torch.Tensor], exact: list[torch.Tensor]) -> Distance:
    """Over all rows that follow the same text in both."""
    counts = [num_comparable(*rows) for rows in zip(found, exact, strict=True)]
    cut = [[rows[:n] for rows, n in zip(of, counts, strict=True)] for of in (found, exact)]
    return Distance.of(*cut)


def main(layers: int, names: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="hatstand-", dir="/dev/shm"))
    shape = {**MISTRAL_7B, "num_hidden_layers": layers}
    base = open_unhashed(write_nf4_base(folder / "base", shape))
    adapter = write_random_adapter(folder / "adapter", base.record, rank=16)
    console, table = Console(width=160), Table()
    columns = (*(case.label for case in WORK.speeds), "prefill")
    for heading in ("mode", *columns, "start, s", "allocated, GB", "KV tokens", "from exact"):
        table.add_column(heading, justify="left" if heading == "from exact" else "right")
    exact: list[torch.Tensor] = []
    figures = {}
    for name in names:
        torch.cuda.empty_cache()
        found = measure(base, adapter, MODES[name])
        exact = exact or found.logits
        apart = distance(found.logits, exact)
        speeds = [f"{found.speeds[label]:.0f}" for label in columns]
        memory = f"{found.allocated / 1e9:.1f}", f"{found.kv_tokens:,}"
        table.add_row(name, *speeds, f"{found.start:.1f}", *memory, str(apart))
        console.print(name, found.speeds, str(apart))
        figures[name] = {**found.speeds, "start": found.start, "kl": apart.kl}
    console.print(table)
    if out := os.environ.get("OUT"):
        (Path(out) / "modes.json").write_text(json.dumps(figures, indent=2))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 32, sys.argv[2:] or list(MODES))
