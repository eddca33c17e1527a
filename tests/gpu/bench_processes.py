"""One recipe over all GPUs of a host, at 7B shape: DDP, and DeepSpeed's ZeRO over NCCL.

    python3 -m tests.gpu.bench_processes 32 [--ways ddp alone zero1 zero2 zero3 full]

Each way is a torchrun of its own, `alone` one of a single process: DDP's steps on one card. All
load at the same time and train one after the other, so that none disturbs another's figures. What
LoRA's ways have trained is written as an adapter folder, and checked as a push checks it: tensors
that are empty, partitioned or of another shape are refused.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from registry.inspection import inspect
from tests.gpu.bench_training import (
    CASES,
    Bases,
    Case,
    Clock,
    Measured,
    fit,
    per_step,
    record_of,
    start_counting,
    summary,
)
from training import processes
from training.export import write_adapter
from training.methods import Method, method_for
from training.recipe import HatSettings

ZERO = Path("training/recipes/deepspeed/zero3.json")
PATIENCE = 150.0  # seconds for all to load, and for each to train


@dataclass(frozen=True)
class Way:
    """A recipe of the single-GPU table, and how its work is divided. `stage` is ZeRO's."""

    file: str
    steps: int
    stage: int | None = None
    settings: tuple[str, ...] = ()
    alone: bool = False  # in one process, what the others do together

    def case(self, folder: Path) -> Case:
        """The recipe with this way's own settings, and DeepSpeed's JSON at this stage."""
        [case] = [case for case in CASES if case.file == self.file]
        settings = self.settings
        if self.stage is not None:
            values = json.loads(ZERO.read_text())
            values["zero_optimization"]["stage"] = self.stage
            path = folder / f"deepspeed-{self.stage}.{processes.rank()}.json"
            path.write_text(json.dumps(values))
            settings = (*settings, f"train.deepspeed={path}")
        return replace(case, steps=self.steps, settings=settings)


SQL = "seed-2-sql-lora.yaml"
WAYS = {
    "ddp": Way("qlora-mistral-7b.yaml", 4),
    # The same rows in the same steps on one device.
    "alone": Way(
        "qlora-mistral-7b.yaml", 4, settings=("train.gradient_accumulation=8",), alone=True
    ),
    "ddp-sql": Way(SQL, 4),
    "zero1": Way(SQL, 3, stage=1),
    "zero2": Way(SQL, 3, stage=2),
    "zero3": Way(SQL, 3, stage=3),
    # As the recipe's head has it.
    "full": Way(SQL, 2, stage=3, settings=("method=full", "train.batch_size=2", "lora.r=64")),
}


def train(name: str, bases: Bases) -> None:
    """One process of a way: load, wait for the turn, train; the first one writes what came out."""
    processes.take_device()
    case, base = WAYS[name].case(bases.folder), bases.path("nf4")
    recipe, clock = case.recipe(base, "plain" if WAYS[name].stage else "ours"), Clock()
    method = method_for(recipe, record_of(base), base)
    model = method.prepare(bases.model(recipe, "ours"))
    rows = case.rows(recipe, int(model.config.vocab_size), per_step(recipe))
    (bases.folder / f"{name}.{processes.rank()}.ready").touch()
    wait_for(bases.folder / f"{name}.go")
    torch.manual_seed(0)
    start_counting()
    fit(model, recipe, rows, clock)
    found = summary(case, name, recipe, rows, clock)
    if recipe.method == "lora":
        write(method, model, bases.folder / name)
    if processes.is_first():
        (bases.folder / f"{name}.json").write_text(json.dumps(vars(found)))


def write(method: Method, model: torch.nn.Module, folder: Path) -> None:
    """The trained adapter, put together; all processes call it."""
    with processes.whole(model):
        adapter = method.finish(model).kept()
    if processes.is_first():
        folder.mkdir()
        write_adapter(adapter, folder)
        HatSettings().hat().write(folder)


def wait_for(path: Path) -> None:
    """Until the file is there. Raises `TimeoutError`."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} did not come")
        time.sleep(0.1)


def conduct(options: argparse.Namespace, count: int) -> None:
    """Start every way in `count` processes, and let one after the other train."""
    folder: Path = options.folder
    forget(options.ways, folder)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = ["-m", "tests.gpu.bench_processes", str(options.layers), "--folder", str(folder)]
    words += ["--tiny"] if options.tiny else []
    together = {name: 1 if WAYS[name].alone else count for name in options.ways}
    running = {
        name: subprocess.Popen([*launch, f"--nproc-per-node={number}", *words, "--way", name])
        for name, number in together.items()
    }
    awaited = [f"{name}.{rank}.ready" for name in together for rank in range(together[name])]
    for each in (*awaited, *options.after):
        try:
            wait_for(folder / each)
        except TimeoutError as error:  # the others go on
            print(error, flush=True)
    for name, process in running.items():
        (folder / f"{name}.go").touch()
        started = time.monotonic()
        try:
            code: int | str = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends its workers then
            code = "too long"
        print(f"{name}: {code}, {time.monotonic() - started:.0f} s", flush=True)


def forget(names: Sequence[str], folder: Path) -> None:
    """Remove what an earlier run has left, which would pass for this one's."""
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)
        for path in folder.glob(f"{name}.*"):
            path.unlink()


def report(names: Sequence[str], bases: Bases, count: int) -> None:
    """A line a way: its figures, and whether a registry would take its adapter."""
    record = record_of(bases.path("nf4"))
    print(f"\n{count} processes, {bases.layers} layers")
    for name in names:
        path, adapter = bases.folder / f"{name}.json", bases.folder / name
        if not path.exists():
            print(f"{name}: no figures")
            continue
        line = Measured(**json.loads(path.read_text())).line(None)
        if adapter.exists():
            found = inspect(adapter, base=record)
            line += f"   {found.refusal or f'taken: {found.digest}'}"
        print(line)


def main() -> None:
    options = parser().parse_args()
    bases = Bases(options.folder, options.layers, options.tiny)
    if options.way is not None:
        train(options.way, bases)
        return
    count = torch.cuda.device_count() or 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("time is up"))
    try:
        conduct(options, count)
    finally:  # what there is, when time is up
        report(options.ways, bases, count)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("layers", type=int)
    made.add_argument("--folder", type=Path, default=Path("/dev/shm/hatstand-training"))
    made.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    made.add_argument("--way", choices=WAYS, help="this process is one of that way's")
    made.add_argument("--after", nargs="*", default=[], help="files to wait for before training")
    made.add_argument("--tiny", action="store_true", help="a small shape, to try the script")
    return made


if __name__ == "__main__":
    main()
