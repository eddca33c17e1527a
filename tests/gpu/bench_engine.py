"""The engine's figures on one device, on random weights: `python -m tests.gpu.bench_engine`.

Options: the number of layers (32), and the modes (`exact fast batch-invariant bf16`; the first one
gets all tables).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from server.bench.device_command import DeviceBench, device_settings
from tests.gpu.shapes import open_unhashed, write_7b_shape

RAM_DISK = Path("/dev/shm/hatstand-bench")


def main(layers: int, modes: list[str]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    console = Console(width=110)
    started = time.perf_counter()
    base = open_unhashed(write_7b_shape(RAM_DISK, layers))
    console.print(f"random weights written in {time.perf_counter() - started:.0f} s")
    figures = {}
    for number, mode in enumerate(modes):
        settings = device_settings()
        settings = replace(settings, weights="nf4-shadow") if mode == "bf16" else settings
        settings = settings if mode == "bf16" else replace(settings, gemm=mode)  # type: ignore[arg-type]
        bench = DeviceBench(base, settings, console)
        figures[mode] = bench.run() if number == 0 else bench.run_speeds()
        torch.cuda.empty_cache()
    out = os.environ.get("OUT")
    if out:
        (Path(out) / "engine.json").write_text(json.dumps(figures, indent=2))
    shutil.rmtree(RAM_DISK)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 32, sys.argv[2:] or ["exact"])
