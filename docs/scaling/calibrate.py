"""What one replica on this machine can do: an engine's steps and loads, measured one by one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from registry import Registry
from server.bases import open_base
from server.bench.driving import Driver
from server.engine.build import build_engine
from server.engine.config import EngineSettings
from server.engine.engine import Engine
from server.engine.request import AdapterRef, GenerationRequest, SamplingParams
from server.residency import RegistrySource

from .machine import Speed

PROMPT_LENGTHS = (8, 32, 64, 128)
SHAPES = ((1, 1), (4, 1), (4, 4), (8, 1), (8, 4))  # rows and adapters among them
BESIDE = 4  # rows, each of an adapter of its own, beside which prompts are measured too
STEPS = 24
ROUNDS = 3


def calibrate(base: str, registry: Registry, names: Sequence[str], slots: int) -> Speed:
    """Least squares over medians of a few rounds; the HTTP layer's part is not in it."""
    opened = open_base(base)
    settings = EngineSettings(max_slots=slots, max_rank=16, prefix_cache=False)
    source = RegistrySource(registry, opened.record, opened.config, settings.max_rank)
    engine = build_engine(opened, source, settings)
    adapters = [AdapterRef(registry.resolve(name).digest, f"{name}@1") for name in names]
    try:
        step, per_row, per_adapter = _steps(engine, adapters)
        prompt, per_prompt_token = _prompts(partial(_first_token, engine, adapters[0]))
        mixed, per_token_beside = _prompts(partial(_mixed_step, engine, adapters[:BESIDE]))
        _load_all(engine, adapters)  # of which those loaded first have left their slots again
        swap = _swap(engine, adapters[:slots])
        stats = engine.stats()
    finally:
        engine.adapters.stop()
    return Speed(
        step=step,
        per_row=per_row,
        per_adapter=per_adapter,
        prompt=prompt,
        per_prompt_token=per_prompt_token,
        beside=mixed - (step + (per_row + per_adapter) * BESIDE),
        per_token_beside=per_token_beside,
        swap=swap,
        load=stats.load_times.total / sum(stats.load_times.counts),
        swap_stops=True,
    )


class _Line(Driver):
    """A driver whose prompts differ, so that nothing is known of them."""

    def ask(self, adapter: AdapterRef, num_prompt: int, count: int) -> str:
        number = next(self._ids)
        request_id = f"calibrate-{number}"
        prompt = tuple((number * 131 + place * 7) % 5000 + 200 for place in range(num_prompt))
        params = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
        self.arrivals[request_id] = []
        self.engine.add(GenerationRequest(request_id, prompt, params, adapter))
        return request_id


def _steps(engine: Engine, adapters: Sequence[AdapterRef]) -> tuple[float, float, float]:
    """Seconds of a step: its fixed part, one row's, and one adapter's."""
    seconds = [_median(partial(_step, engine, adapters, *shape)) for shape in SHAPES]
    terms = np.array([(1, rows, count) for rows, count in SHAPES])
    found, *_ = np.linalg.lstsq(terms, np.array(seconds), rcond=None)
    return float(found[0]), float(found[1]), float(max(0.0, found[2]))


def _step(engine: Engine, adapters: Sequence[AdapterRef], rows: int, count: int) -> float:
    line = _Line(engine)
    ids = [line.ask(adapters[row % count], 8, STEPS + 4) for row in range(rows)]
    line.run(lambda: line.have_all(ids, 2))
    began, before = time.perf_counter(), engine.stats().num_steps
    line.run(lambda: line.have_all(ids, STEPS))
    seconds = (time.perf_counter() - began) / (engine.stats().num_steps - before)
    line.run()
    return seconds


def _prompts(measure: Callable[[int], float]) -> tuple[float, float]:
    """Seconds of a pass over prompts: its fixed part, and one token's."""
    seconds = [_median(partial(measure, length)) for length in PROMPT_LENGTHS]
    slope, fixed = np.polyfit(PROMPT_LENGTHS, seconds, 1)
    return float(fixed), float(slope)


def _first_token(engine: Engine, adapter: AdapterRef, length: int) -> float:
    line = _Line(engine)
    began = time.perf_counter()
    line.ask(adapter, length, 1)
    line.run()
    return time.perf_counter() - began


def _mixed_step(engine: Engine, adapters: Sequence[AdapterRef], length: int) -> float:
    """A step of one row for each adapter, and of a prompt for the first of them."""
    line = _Line(engine)
    rows = [line.ask(adapter, 8, STEPS) for adapter in adapters]
    line.run(lambda: line.have_all(rows, 2))
    began = time.perf_counter()
    newest = line.ask(adapters[0], length, 1)
    line.run(lambda: line.have_all([newest], 0))
    seconds = time.perf_counter() - began
    line.run()
    return seconds


def _load_all(engine: Engine, adapters: Sequence[AdapterRef]) -> None:
    """Each is asked for once, so that each has been read and put into a slot."""
    for adapter in adapters:
        line = _Line(engine)
        line.ask(adapter, 8, 1)
        line.run()


def _swap(engine: Engine, adapters: Sequence[AdapterRef]) -> float:
    """What a first token takes longer where the adapter comes from host memory."""
    swapped = [_first_token(engine, adapter, 8) for adapter in adapters]
    there = [_first_token(engine, adapter, 8) for adapter in adapters]
    return max(0.0, statistics.median(swapped) - statistics.median(there))


def _median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(ROUNDS))
