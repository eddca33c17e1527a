"""The device's bench, all of it but the profiler, on a tiny base that runs as a device's would."""

from __future__ import annotations

import math

import pytest
import torch
from rich.console import Console

from server.bases import Base, open_base
from server.bench.device_command import DeviceBench
from server.bench.device_work import LARGE, DeviceWork
from server.bench.workload import Case
from server.engine.config import EngineSettings
from server.errors import StartupError
from tests.support.tiny import write_tiny_base

SLOTS = 4
WORK = DeviceWork(
    speeds=(Case(1, 0), Case(4, 2)),
    short=2,
    long=4,
    prefill=Case(2, 2),
    prefill_tokens=20,
    first_tokens=(8,),
    rest=0.01,
    num_adapters=9,
    moved=3,
    disturbed=Case(3, 2),
    disturbed_tokens=24,
    requests=12,
    concurrent=4,
    request_tokens=4,
    ranked=Case(4, 4),
    served=Case(4, 4),
    served_tokens=(4, 24),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(str(write_tiny_base(tmp_path_factory.mktemp("bench") / "base")))


@pytest.fixture
def bench(base: Base) -> DeviceBench:
    settings = EngineSettings(
        max_slots=SLOTS,
        max_rank=LARGE,
        kv_memory=1 << 20,
        dtype=torch.float32,
        weights="nf4",
        fused=True,
    )
    return DeviceBench(base, settings, Console(record=True, width=120), WORK)


def test_every_section_has_its_figures(bench: DeviceBench) -> None:
    figures = bench.run([name for name in bench.sections if name != "apart"])
    rates = ("1/0", "4/2", "prefill", "Zipf", "rank 8 and rank 64", "over HTTP")
    times = (
        "start to ready",
        "first token of 8",
        "first token of 8, at rest",
        "swap",
        "cold",
        "p99 between tokens, newcomers",
    )
    for name in (*rates, *times):  # differences of two times: on busy cores, of either sign
        assert math.isfinite(figures[name]), name
        assert figures[name] != 0, name
    text = bench.console.export_text()
    assert "9 adapters over 4 slots, 0 evictions" not in text  # they did come and go
    assert " 0 adapters load from disk" not in text


def test_only_what_was_asked_for(bench: DeviceBench) -> None:
    assert bench.run(["prefill"]).keys() == {"weights", "start to ready", "prefill"}


def test_a_section_that_there_is_not(bench: DeviceBench) -> None:
    with pytest.raises(StartupError, match="decode, prefill, apart"):
        bench.run(["speed"])
