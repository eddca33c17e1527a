"""Run both sides in turns and print what came out."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from server.bases import open_base, pull
from server.bases.embedded import NAME as EMBEDDED
from server.bench.device_command import run_on_device
from server.bench.engine_side import EngineSide
from server.bench.peer_side import PeerSide
from server.bench.report import print_table, write_json
from server.bench.workload import Case, Measured, prompts, write_adapters
from server.engine.config import WeightMode

ROUNDS = 3  # each side's best one counts; sides take turns, so that both meet the same machine
CPU_MODES: tuple[WeightMode, ...] = ("nf4", "nf4-shadow")


class Side(Protocol):
    label: str
    weight_bytes: int

    def measure(
        self, case: Case, prompts: Sequence[Sequence[int]], again: Sequence[Sequence[int]]
    ) -> Measured: ...


def run(
    *,
    base: str = EMBEDDED,
    device: str = "cpu",
    streams: int = 8,
    adapters: int = 4,
    only: Collection[str] = (),
    json_file: Path | None = None,
    console: Console | None = None,
) -> dict[str, dict[Case, Measured]]:
    """Measure one stream and `streams` over `adapters`; print the table, write `json_file`.

    On CUDA devices the cases are those of the performance targets, without the other side; `only`
    names the sections that are wanted.
    """
    console = console or Console()
    cases = list(dict.fromkeys([Case(1, min(adapters, 1)), Case(streams, adapters)]))
    opened = open_base(str(pull(base)) if base == EMBEDDED else base)
    if device == "cuda":
        run_on_device(opened, only=only, json_file=json_file, console=console)
        return {}
    vocab_size = opened.config.vocab_size
    results: dict[str, dict[Case, Measured]] = {}
    with tempfile.TemporaryDirectory() as scratch, _progress(console) as progress:
        task = progress.add_task("loading both sides", total=None)
        folders = write_adapters(Path(scratch), opened.record, adapters)
        sides: list[Side] = [
            PeerSide(opened, folders, device=device),
            *(EngineSide(opened, folders, device=device, weights=mode) for mode in CPU_MODES),
        ]
        progress.update(task, total=ROUNDS * len(cases) * len(sides))
        for number in range(ROUNDS):
            for case in cases:
                for side in sides:
                    progress.update(task, description=f"{case.label} {side.label}")
                    measured = side.measure(
                        case,
                        prompts(case, vocab_size, round_number=2 * number),
                        prompts(case, vocab_size, round_number=2 * number + 1),
                    )
                    known = results.setdefault(side.label, {})
                    known[case] = measured.better(known.get(case))
                    progress.advance(task)
    memory = {side.label: side.weight_bytes for side in sides}
    print_table(console, results, memory, cases, PeerSide.label)
    if json_file is not None:
        write_json(json_file, results, memory, cases)
    return results


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
