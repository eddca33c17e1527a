"""What the host does for a step, alone and over HTTP: `python -m tests.server.engine.measure`.

The engine as it is, with 64 sequences over 64 adapters, but an executor that computes nothing: a
step takes `--step` seconds, as one on a device would. Printed: microseconds from step to step; what
the host took of them, from a step's tokens to the wait for the next one's; how long it then waited.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import torch

from server.bases import Base, open_base
from server.bench.device_http import over_http
from server.bench.step_times import StepTimes, percentile, timed_steps
from server.engine.build import build_engine
from server.engine.config import EngineSettings
from server.engine.engine import Engine
from server.engine.request import AdapterRef, GenerationRequest, SamplingParams
from tests.support.one_letter import OneLetter
from tests.support.serving import FolderSource
from tests.support.tiny import TinyAdapter, write_tiny_base

STREAMS = 64
SHORT, LONG = 64, 320  # generated tokens; a step's time is taken between the two
PROMPT = tuple(range(100, 160))


@dataclass
class Pace:
    """Steps that take a time, one after the other."""

    seconds: float
    ready: float = 0.0

    def begin(self) -> Callable[[], None]:
        self.ready = ready = max(self.ready, time.perf_counter()) + self.seconds
        return lambda: time.sleep(max(0.0, ready - time.perf_counter()))


def paced_engine(base: Base, adapter: Path, seconds: float) -> Engine:
    names = {f"bench{number}": adapter for number in range(STREAMS)}
    settings = replace(
        EngineSettings(),
        dtype=torch.bfloat16,
        max_batch=128,
        max_slots=STREAMS,
        kv_memory=64 << 20,
        chunk=2048,
    )
    engine = build_engine(base, FolderSource(names, base), settings)
    engine._executor = OneLetter(engine._executor, Pace(seconds).begin)
    return engine


def alone(engine: Engine, count: int, run: int) -> float:
    """Seconds until every sequence has `count` tokens."""
    params = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
    for number in range(STREAMS):
        name = f"bench{number}"
        prompt = (run % 256, number, *PROMPT)
        engine.add(GenerationRequest(f"{run}-{name}", prompt, params, AdapterRef(name, name)))
    began = time.perf_counter()
    while engine.has_work:
        if not engine.step(lambda *_: None):
            time.sleep(0.0005)  # adapters are on their way
    return time.perf_counter() - began


def tell(name: str, seconds: Sequence[float], times: StepTimes) -> None:
    """A step's microseconds between two lengths of answers; percentiles of what is in them."""
    short, long = seconds
    print(f"{name}: {(long - short) / (LONG - SHORT) * 1e6:,.0f} µs a step")
    for kind, values in {"host": times.host, "waiting": times.waiting}.items():
        shares = {f"p{100 * at:g}": percentile(values, at) for at in (0.01, 0.5, 0.99, 1.0)}
        print(f"  {kind}:", ", ".join(f"{key} {1e6 * value:,.0f}" for key, value in shares.items()))
    print(f"  steps done before the host came for them: {times.late:.1%}")


def main(seconds: float) -> None:
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        path = write_tiny_base(Path(folder, "base"), max_position_embeddings=1024)
        adapter = TinyAdapter("x").write(path, Path(folder, "x"))
        base = open_base(str(path))
        engine = paced_engine(base, adapter, seconds)
        alone(engine, 8, 0)
        with timed_steps(engine, STREAMS) as times:
            by_hand = [min(alone(engine, n, n + run) for run in (1, 2)) for n in (SHORT, LONG)]
        tell("engine alone", by_hand, times)
        work = SimpleNamespace(served=SimpleNamespace(streams=STREAMS))
        cases = SimpleNamespace(
            engine=engine,
            work=work,
            name_of=lambda _, stream: f"bench{stream}",
            prompt=lambda _: [200, *PROMPT],
        )
        with timed_steps(engine, STREAMS) as times:
            served = over_http(cases, base, (SHORT, LONG), rounds=3)  # type: ignore[arg-type]
        tell("over HTTP", served, times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.server.engine.measure")
    parser.add_argument("--step", type=float, default=0.0053, help="seconds of the device")
    main(parser.parse_args().step)
