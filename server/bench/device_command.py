"""`hatstand bench --device cuda`: the engine at the work of the performance targets."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import torch
from rich.console import Console

from server.bases import Base
from server.bench.device_cases import DeviceCases, zipf
from server.bench.device_movement import DeviceMovement, Disturb
from server.bench.device_report import RATE, Figure, print_figures, print_pulled_apart
from server.bench.device_work import LARGE, SMALL, DeviceWork, device_settings
from server.bench.driving import Driver
from server.bench.engine_side import FolderSource
from server.bench.floors import Floors
from server.bench.pull_apart import pull_apart
from server.bench.workload import PROMPT_TOKENS, RANK, Case, write_adapters
from server.engine.build import build_engine
from server.engine.config import EngineSettings
from server.engine.device_executor import DeviceExecutor
from server.engine.engine import Engine
from server.errors import StartupError

MS = 1e3


@dataclass
class DeviceBench:
    """Measures one base on its settings' device, prints each table when it is known.

    figures: by name, in the unit in which they are printed.
    """

    base: Base
    settings: EngineSettings
    console: Console
    work: DeviceWork = field(default_factory=DeviceWork)
    figures: dict[str, float] = field(default_factory=dict)

    def run(self, only: Collection[str] = ()) -> dict[str, float]:
        """All sections, or those asked for; StartupError for a name that is none of them."""
        sections = self.sections
        if unknown := [name for name in only if name not in sections]:
            raise StartupError(f"no section {unknown[0]!r}: take some of {', '.join(sections)}")
        with tempfile.TemporaryDirectory(dir=_ram_disk()) as scratch:
            engine = self._start(_folders(Path(scratch), self.base, self.work.num_adapters))
            cases = DeviceCases(engine, self.base.config.vocab_size, self.work)
            for name, section in sections.items():  # in their own order, however they were named
                if not only or name in only:
                    section(cases)
            engine.adapters.stop()
        return self.figures

    @property
    def sections(self) -> Mapping[str, Callable[[DeviceCases], None]]:
        """What can be measured, in the order in which it is. HTTP ends the engine."""
        return {
            "decode": self._decode,
            "prefill": self._prefill,
            "apart": self._apart,
            "latency": self._latency,
            "beneath": self._beneath,
            "zipf": self._zipf,
            "ranks": self._ranks,
            "http": self._http,
        }

    def _start(self, folders: Mapping[str, Path]) -> Engine:
        started = time.perf_counter()
        engine = build_engine(self.base, FolderSource(folders, self.base), self.settings)
        figures = [Figure("weights", engine.weight_bytes / 1e9, "GB")]
        if self.settings.device == "cuda":
            torch.cuda.synchronize()
            figures += [
                Figure("allocated", torch.cuda.memory_allocated() / 1e9, "GB"),
                Figure("peak", torch.cuda.max_memory_allocated() / 1e9, "GB"),
            ]
        figures.insert(0, Figure("start to ready", time.perf_counter() - started, "s"))
        self._tell(f"start, {self.settings.gemm}", figures)
        return engine

    def _decode(self, cases: DeviceCases) -> None:
        figures = []
        for case in self.work.speeds:
            bound = case.streams / self._step_floor(case, RANK)
            figures.append(Figure(case.label, cases.decode(case), RATE, bound))
        self._tell(f"decoding, {self.settings.gemm}", figures)

    def _prefill(self, cases: DeviceCases) -> None:
        tokens = self.work.prefill.streams * self.work.prefill_tokens
        bound = tokens / self._floors().prefill(tokens)
        title = f"prompts, {self.work.prefill.label} of {self.work.prefill_tokens}"
        self._tell(title, [Figure("prefill", cases.prefill(), RATE, bound)])

    def _apart(self, cases: DeviceCases) -> None:
        executor = cases.engine._executor
        assert isinstance(executor, DeviceExecutor)
        for case in self.work.apart:
            driver = Driver(cases.engine)
            ids = [
                driver.submit(cases.prompt(PROMPT_TOKENS), cases.name_of(case, stream), 40)
                for stream in range(case.streams)
            ]
            driver.run(until=partial(driver.have_all, ids, 8))
            size = executor.steps.size_for(case.streams)
            with torch.inference_mode():
                parts = pull_apart(partial(executor.steps.run, size, adapted=True))
            print_pulled_apart(self.console, f"one step of {case.label}", parts)
            driver.run()
        for tokens in self.work.first_tokens:
            first = partial(cases.first_token_once, tokens, cases.adapter(0))
            print_pulled_apart(self.console, f"first token of {tokens}", pull_apart(first))

    def _latency(self, cases: DeviceCases) -> None:
        cases.make_resident(self.settings.max_slots + self.work.moved)
        floors, movement, name = self._floors(), DeviceMovement(cases), cases.adapter(0)
        cases.make_resident(1)
        figures = []
        lone = product(
            self.work.first_tokens,
            ((name, ""), (None, ", bare base")),
            ((0.0, ""), (self.work.rest, ", at rest")),
        )
        for tokens, (who, suffix), (rest, state) in lone:
            value, floor = cases.first_token(tokens, who, rest=rest), floors.prefill(tokens)
            label = f"first token of {tokens}{suffix}{state}"
            figures.append(Figure(label, MS * value, "ms", MS * floor))
        swap = _median(movement.swaps())
        figures.append(Figure("swap", MS * swap, "ms", MS * floors.swap()))
        warm = cases.first_token(PROMPT_TOKENS, name)
        added = _median(movement.cold(PROMPT_TOKENS)) - warm
        figures.append(Figure("cold", MS * added, "ms", MS * floors.swap()))
        self._tell("latency, unloaded", figures)

    def _beneath(self, cases: DeviceCases) -> None:
        movement, stats = DeviceMovement(cases), cases.engine.stats
        companies: Mapping[str, Disturb | None] = {
            "alone": None,
            "newcomers": movement.newcomers(resident=True),
            "newcomers load": movement.newcomers(resident=False),
        }
        figures, loads = [], 0
        for company, disturb in companies.items():
            loads = stats().num_adapter_loads
            gaps = movement.gaps(disturb)
            loads = stats().num_adapter_loads - loads
            for share in (0.5, 0.99):
                value = MS * gaps[int(share * len(gaps))]
                figures.append(Figure(f"p{100 * share:.0f} between tokens, {company}", value, "ms"))
        growth = 100 * figures[-1].value / figures[-3].value
        figures.append(Figure("p99 while adapters load, of p99 without", growth, "%"))
        streams = self.work.disturbed.label
        self._tell(f"{streams} while {loads} adapters load from disk beneath them", figures)

    def _zipf(self, cases: DeviceCases) -> None:
        numbers = zipf(self.work.num_adapters, self.work.requests)
        slots = self.settings.max_slots
        cases.make_resident(self.work.num_adapters)
        cases.make_resident(slots)
        all_resident = [cases.adapter(number % slots) for number in numbers]
        cases.throughput(all_resident)
        resident = cases.throughput(all_resident)
        names = [cases.adapter(number) for number in numbers]
        cases.throughput(names)
        before = cases.engine.stats().num_adapter_evictions
        mixed = cases.throughput(names)
        evictions = cases.engine.stats().num_adapter_evictions - before
        figures = [
            Figure("all resident", resident, RATE),
            Figure("Zipf", mixed, RATE),
            Figure("Zipf, of all resident", 100 * mixed / resident, "%"),
        ]
        title = f"{self.work.num_adapters} adapters over {slots} slots, {evictions} evictions"
        self._tell(title, figures)

    def _ranks(self, cases: DeviceCases) -> None:
        case, figures = self.work.ranked, []
        for kinds, mean in {"s": SMALL, "l": LARGE, "sl": (SMALL + LARGE) / 2}.items():
            adapter = partial(_alternating, kinds)
            of_kind = DeviceCases(cases.engine, cases.vocab_size, self.work, adapter, seed=10**6)
            bound = case.streams / self._step_floor(case, mean)
            label = " and ".join(f"rank {SMALL if kind == 's' else LARGE}" for kind in kinds)
            figures.append(Figure(label, of_kind.decode(case), RATE, bound))
        small, large, mixed = (1 / figure.value for figure in figures)
        share = 100 * mixed / ((small + large) / 2)
        figures.append(Figure("time of the mix, of the mean of both", share, "%"))
        self._tell(f"ranks in turn, {case.label}", figures)

    def _http(self, cases: DeviceCases) -> None:
        from server.bench.device_http import http_figures  # all of the HTTP layer

        case, (short, long) = self.work.served, self.work.served_tokens
        figures = http_figures(cases, self.base)
        self._tell(f"{case.label} over HTTP, from the {short}th token to the {long}th", figures)

    def _tell(self, title: str, figures: Sequence[Figure]) -> None:
        self.figures.update((figure.name, figure.value) for figure in figures)
        print_figures(self.console, title, figures)

    def _floors(self, rank: float = RANK) -> Floors:
        return Floors(self.base.config, self.settings, rank)

    def _step_floor(self, case: Case, rank: float) -> float:
        """Seconds, at the context in the middle of a decoding run."""
        context = PROMPT_TOKENS + (self.work.short + self.work.long) // 2
        return self._floors(rank).decode(case, context)


def run_on_device(
    base: Base,
    *,
    only: Collection[str] = (),
    settings: EngineSettings | None = None,
    json_file: Path | None = None,
    console: Console | None = None,
) -> dict[str, float]:
    """Measure a base on the CUDA device; print the tables, write `json_file`."""
    bench = DeviceBench(base, settings or device_settings(), console or Console())
    figures = bench.run(only)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _folders(scratch: Path, base: Base, count: int) -> dict[str, Path]:
    """Adapters by name: many names, one folder for each rank, since only speed is measured."""
    kinds = {
        kind: folder
        for kind, rank in {"bench": RANK, "s": SMALL, "l": LARGE}.items()
        for folder in write_adapters(scratch / kind, base.record, 1, rank=rank).values()
    }
    return {f"{kind}{n}": path for kind, path in kinds.items() for n in range(count)}


def _alternating(kinds: str, number: int) -> str:
    return f"{kinds[number % len(kinds)]}{number}"


def _median(values: Sequence[float]) -> float:
    return values[len(values) // 2]


def _ram_disk() -> Path | None:
    """Where reading does not wait for a disk, if there is such a place."""
    folder = Path("/dev/shm")
    return folder if folder.is_dir() else None
