"""The engine's figures on one device, on random weights: `python -m tests.gpu.bench_engine`.

    python -m tests.gpu.bench_engine 32 exact fast --only decode --only http --cases 1/1 64/64

The number of layers (32), then the modes (`exact fast batch-invariant bf16`); the first one gets
all sections, or those after `--only`, the others decoding and prefill. `--cases` are decoded.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from server.bench.device_command import DeviceBench
from server.bench.device_work import DeviceWork, device_settings
from server.bench.workload import Case
from server.engine.config import EngineSettings
from tests.gpu.shapes import open_unhashed, write_7b_shape

RAM_DISK = Path("/dev/shm/hatstand-bench")
SPEEDS = ("decode", "prefill")


def settings_for(mode: str) -> EngineSettings:
    settings = device_settings()
    if mode == "bf16":
        return replace(settings, weights="nf4-shadow")
    return replace(settings, gemm=mode)  # type: ignore[arg-type]


def main(asked: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    console = Console(width=110)
    started = time.perf_counter()
    base = open_unhashed(write_7b_shape(RAM_DISK, asked.layers))
    console.print(f"random weights written in {time.perf_counter() - started:.0f} s")
    work = DeviceWork(speeds=tuple(asked.cases)) if asked.cases else DeviceWork()
    figures = {}
    for number, mode in enumerate(asked.modes):
        bench = DeviceBench(base, settings_for(mode), console, work)
        figures[mode] = bench.run(asked.only if number == 0 else SPEEDS)
        torch.cuda.empty_cache()
    if out := os.environ.get("OUT"):
        (Path(out) / "engine.json").write_text(json.dumps(figures, indent=2))
    shutil.rmtree(RAM_DISK)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.gpu.bench_engine")
    made.add_argument("layers", type=int, nargs="?", default=32)
    made.add_argument("modes", nargs="*", default=["exact"])
    made.add_argument("--only", action="append", default=[], metavar="SECTION")
    made.add_argument("--cases", nargs="+", default=[], type=case, metavar="STREAMS/ADAPTERS")
    return made


def case(label: str) -> Case:
    streams, adapters = label.split("/")
    return Case(int(streams), int(adapters))


if __name__ == "__main__":
    main(parser().parse_args())
