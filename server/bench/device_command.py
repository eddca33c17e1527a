"""`hatstand bench --device cuda`: the engine at the work of the performance targets."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from server.bases import Base
from server.bench.device_cases import DeviceCases, zipf
from server.bench.device_report import Speed, print_figures, print_pulled_apart, print_speeds
from server.bench.driving import Driver
from server.bench.engine_side import FolderSource
from server.bench.floors import Floors
from server.bench.pull_apart import pull_apart
from server.bench.workload import PROMPT_TOKENS, RANK, Case, write_adapters
from server.engine.build import build_engine
from server.engine.config import EngineSettings
from server.engine.device_executor import DeviceExecutor
from server.engine.engine import Engine

CASES = (Case(1, 0), Case(1, 1), Case(16, 16), Case(64, 1), Case(64, 64), Case(128, 64))
APART = (Case(1, 1), Case(16, 16), Case(64, 64))
NUM_ADAPTERS = 200
SMALL, LARGE = 8, 64
DISTURBED = (32, 16)  # streams and adapters that run while others are loaded beside them


def device_settings() -> EngineSettings:
    """64 slots of rank 64 on a CUDA device."""
    settings = EngineSettings.on("cuda")
    return replace(
        settings,
        max_slots=64,
        max_rank=LARGE,
        kv_memory=24 * 2**30,
        host_memory=12 * 2**30,
        weights="nf4",
    )


@dataclass
class DeviceBench:
    """Measures one base on the CUDA device, prints each table when it is known."""

    base: Base
    settings: EngineSettings
    console: Console
    figures: dict[str, float] = field(default_factory=dict)

    def run(self) -> dict[str, float]:
        """All tables; the figures by name, times in seconds."""
        sections = (self._speeds, self._pull_apart, self._latencies, self._movement, self._mixes)
        return self._run(sections)

    def run_speeds(self) -> dict[str, float]:
        """Decoding and prefill alone."""
        return self._run((self._speeds,))

    def _run(self, sections: Sequence[Callable[[DeviceCases], None]]) -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=_ram_disk()) as scratch:
            engine = self._start(_folders(Path(scratch), self.base))
            cases = DeviceCases(engine, self.base.config.vocab_size)
            for section in sections:
                section(cases)
            engine.adapters.stop()
        return self.figures

    def _start(self, folders: Mapping[str, Path]) -> Engine:
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        engine = build_engine(self.base, FolderSource(folders, self.base), self.settings)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        self._note("start", seconds)
        self._print(
            f"start, {self.settings.gemm}",
            {
                "start to ready, s": f"{seconds:.1f}",
                "weights, GB": f"{engine.weight_bytes / 1e9:.2f}",
                "allocated, GB": f"{torch.cuda.memory_allocated() / 1e9:.1f}",
                "peak, GB": f"{torch.cuda.max_memory_allocated() / 1e9:.1f}",
            },
        )
        return engine

    def _speeds(self, cases: DeviceCases) -> None:
        floors = Floors(self.base.config, self.settings, RANK)
        speeds = []
        for case in CASES:
            speed = Speed(case, cases.decode(case), floors.decode(case, PROMPT_TOKENS + 72))
            speeds.append(speed)
            self._note(case.label, speed.tokens_per_second)
        print_speeds(self.console, f"decoding, {self.settings.gemm}", speeds)
        rate = cases.prefill(streams=8, tokens=1024, adapters=8)
        self._note("prefill 8×1024, 8 adapters", rate)
        floor = floors.prefill(8 * 1024)
        self._print(
            "prefill 8×1024, 8 adapters",
            {"tok/s": f"{rate:.0f}", "% of floor": f"{100 * floor * rate / 8192:.0f}"},
        )

    def _pull_apart(self, cases: DeviceCases) -> None:
        executor = cases.engine._executor
        assert isinstance(executor, DeviceExecutor)
        for case in APART:
            driver = Driver(cases.engine)
            ids = [
                driver.submit(cases.prompt(PROMPT_TOKENS), f"bench{stream % case.adapters}", 40)
                for stream in range(case.streams)
            ]
            driver.run(until=partial(driver.have_all, ids, 8))
            size = executor.steps.size_for(case.streams)
            with torch.inference_mode():
                parts = pull_apart(partial(executor.steps.run, size, adapted=True))
            print_pulled_apart(self.console, case, parts)
            self._note(f"step {case.label}", parts.wall * 1e-6)
            driver.run()

    def _latencies(self, cases: DeviceCases) -> None:
        cases.make_resident(1)
        figures = {}
        for tokens in (128, 1024):
            seconds = cases.first_token(tokens, "bench0")
            self._note(f"first token of {tokens}", seconds)
            figures[f"first token of {tokens}, ms"] = f"{seconds * 1e3:.1f}"
        warm = cases.first_token(64, "bench0")
        cold = sorted(cases.cold_first_token(64, range(100, 112)))
        added = cold[len(cold) // 2] - warm
        self._note("cold", added)
        figures["cold: disk cache to first token, added, ms"] = f"{added * 1e3:.1f}"
        cases.make_resident(64)
        time.sleep(0.3)  # until those that only came may be put out again
        swaps = cases.swaps(range(100, 112))
        self._note("swap", swaps[len(swaps) // 2])
        figures["swap: pinned host to slot, ms"] = f"{swaps[len(swaps) // 2] * 1e3:.2f}"
        self._print("latency", figures)

    def _movement(self, cases: DeviceCases) -> None:
        streams, adapters = DISTURBED
        numbers = iter(range(10_000))

        def load_another(driver: Driver) -> None:
            name = f"bench{64 + next(numbers) % 100}"
            driver.submit(cases.prompt(8), name, 1)

        def add_resident(driver: Driver) -> None:
            driver.submit(cases.prompt(8), f"bench{next(numbers) % adapters}", 1)

        quiet = cases.gaps(streams, adapters, add_resident)
        loads = cases.engine.stats().num_adapter_loads
        busy = cases.gaps(streams, adapters, load_another)
        loads = cases.engine.stats().num_adapter_loads - loads
        figures = {}
        for share in (0.5, 0.99):
            before, after = (gaps[int(share * len(gaps))] for gaps in (quiet, busy))
            figures[f"p{100 * share:.0f} between tokens, ms"] = (
                f"{before * 1e3:.2f} → {after * 1e3:.2f} ({100 * (after / before - 1):+.1f}%)"
            )
            self._note(f"p{100 * share:.0f} quiet", before)
            self._note(f"p{100 * share:.0f} loading", after)
        self._print(f"{streams} streams while {loads} adapters load beneath them", figures)

    def _mixes(self, cases: DeviceCases) -> None:
        requests, streams, count = 384, 64, 64
        numbers = zipf(NUM_ADAPTERS, requests)
        cases.make_resident(64)
        resident = [f"bench{number % 64}" for number in numbers]
        rates = {"all resident": cases.throughput(resident, streams=streams, count=count)}
        names = [f"bench{number}" for number in numbers]
        cases.throughput(names, streams=streams, count=count)
        rates["200 over 64 slots, Zipf"] = cases.throughput(names, streams=streams, count=count)
        for label, letters in (("r8", "s"), ("r64", "l"), ("r8 and r64 mixed", "sl")):
            adapter = partial(_alternating, letters)
            kinds = DeviceCases(cases.engine, cases.vocab_size, adapter, seed=10**6)
            rates[f"32/32 {label}"] = kinds.decode(Case(32, 32))
        for name, rate in rates.items():
            self._note(name, rate)
        self._print("mixes, tok/s", {name: f"{rate:.0f}" for name, rate in rates.items()})

    def _note(self, name: str, value: float) -> None:
        self.figures[name] = value

    def _print(self, title: str, figures: Mapping[str, str]) -> None:
        print_figures(self.console, title, figures)


def run_on_device(
    base: Base,
    *,
    settings: EngineSettings | None = None,
    json_file: Path | None = None,
    console: Console | None = None,
) -> dict[str, float]:
    """Measure a base on the CUDA device; print the tables, write `json_file`."""
    figures = DeviceBench(base, settings or device_settings(), console or Console()).run()
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _folders(scratch: Path, base: Base) -> dict[str, Path]:
    """Adapters by name: many names, one folder for each rank, since only speed is measured."""
    [plain] = write_adapters(scratch / "plain", base.record, 1).values()
    [small] = write_adapters(scratch / "small", base.record, 1, rank=SMALL).values()
    [large] = write_adapters(scratch / "large", base.record, 1, rank=LARGE).values()
    kinds = {"bench": plain, "s": small, "l": large}
    return {f"{kind}{n}": path for kind, path in kinds.items() for n in range(NUM_ADAPTERS)}


def _alternating(kinds: str, number: int) -> str:
    return f"{kinds[number % len(kinds)]}{number}"


def _ram_disk() -> Path | None:
    """Where reading does not wait for a disk, if there is such a place."""
    folder = Path("/dev/shm")
    return folder if folder.is_dir() else None
