"""What takes memory on the device while it serves, and what happens when there is none."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from server.bases import Base  # noqa: E402
from server.engine.engine import Engine  # noqa: E402
from server.errors import AdapterLoadError, OutOfMemory  # noqa: E402
from tests.gpu.seven_b import NAMES, prompt, running, write_parts  # noqa: E402
from tests.gpu.want_of_memory import no_memory_left  # noqa: E402
from tests.support.serving import Driver  # noqa: E402

pytestmark = pytest.mark.gpu

Parts = tuple[Base, dict[str, Path]]
ROOT = Path(__file__).parents[2]
BROKEN = """
import asyncio, sys, torch
from pathlib import Path
from server.engine.device_executor import DeviceExecutor
from server.engine.request import GenerationRequest, SamplingParams
from server.engine.worker import EngineWorker
from server.errors import EngineStopped
from tests.support.serving import make_engine

launch, steps = DeviceExecutor.launch, iter(range(6))

def until_it_breaks(executor, batch):
    outcome = launch(executor, batch)
    if next(steps, None) is None:  # reads far outside, which ends the process's use of the device
        torch.zeros(4, device="cuda")[torch.tensor([10**6], device="cuda")]
    return outcome

async def main(worker):
    params = SamplingParams(temperature=0.0, max_tokens=100, ignore_eos=True)
    request, tokens = GenerationRequest("it", (1, 2, 3), params, None), 0
    try:
        async for delta in worker.generate(request):
            tokens += len(delta.token_ids)
    except EngineStopped:
        print(f"told after {tokens} tokens; healthy: {worker.is_healthy}", flush=True)
        worker.stop()
        sys.exit(1)

worker = EngineWorker(make_engine(Path(sys.argv[1]), device="cuda", weights="dense"))
DeviceExecutor.launch = until_it_breaks
worker.start()
asyncio.run(main(worker))
"""


@pytest.fixture(scope="module")
def parts(ram_disk: Path) -> Parts:
    return write_parts(ram_disk / "parts", 2)


def decoding(engine: Engine, **params: Any) -> Driver:
    """A driver whose eight sequences, of every adapter, are all past their prompts."""
    driver = Driver(engine)
    for number in range(8):
        driver.submit(prompt(number, 30), NAMES[number % 5], max_tokens=200, **params)
    while any(len(deltas) < 10 for deltas in driver.deltas.values()):
        driver.step()
    return driver


@contextmanager
def nothing_waited_for() -> Iterator[None]:
    """Whoever makes the host wait for the device raises."""
    try:
        with warnings.catch_warnings(action="ignore"):  # the mode says that it is a prototype
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def allocations() -> tuple[int, int, int]:
    """How often torch's pool, the driver, and page-locked memory have been asked so far."""
    of_device, of_host = torch.cuda.memory_stats(), torch.cuda.host_memory_stats()
    taken = of_device["allocation.all.allocated"], of_device["num_device_alloc"]
    return *taken, of_host["num_host_alloc"]


@pytest.mark.parametrize(
    "params", [{}, {"temperature": 1.0, "top_p": 0.9}], ids=["greedy", "drawn"]
)
def test_decoding_takes_no_memory_and_waits_for_nothing(
    params: dict[str, Any], parts: Parts
) -> None:
    with running(*parts) as engine:
        driver = decoding(engine, **params)
        before = allocations()
        with nothing_waited_for():
            for _ in range(60):
                driver.step()
        pool, driver_calls, pinned = (b - a for a, b in zip(before, allocations(), strict=True))
        print(
            f"\n60 steps: {pool} from torch's pool, {driver_calls} of the driver, {pinned} pinned"
        )
        assert pool == driver_calls == pinned == 0
        driver.run()


def test_an_adapter_without_room_fails_alone(parts: Parts) -> None:
    with running(*parts) as engine:
        driver = Driver(engine)
        streams = [driver.submit(prompt(0, 30), max_tokens=300)]
        driver.step()
        with no_memory_left():
            failed = driver.submit(prompt(1, 30), "r64", max_tokens=5)
            while failed not in driver.errors:
                assert driver.engine.has_work
                driver.step()
        assert isinstance(driver.errors[failed], AdapterLoadError)
        streams.append(driver.submit(prompt(1, 30), "r64", max_tokens=5))
        driver.run()
        assert [len(driver.tokens(stream)) for stream in streams] == [300, 5]
        engine.check_idle()


def test_requests_without_room_end_and_the_others_go_on(parts: Parts) -> None:
    """Twenty prompts in one step, more than a recorded pass takes, and tokens to be drawn."""
    with running(*parts, max_batch=32, gemm="batch-invariant") as engine:
        driver = Driver(engine)
        stream = driver.submit(prompt(0, 30), max_tokens=60)
        driver.run(most=10_000)
        alone = driver.tokens(stream)
        stream = driver.submit(prompt(0, 30), max_tokens=60)
        for _ in range(5):
            driver.step()
        with no_memory_left():
            many = [driver.submit(prompt(n, 9), max_tokens=8, temperature=1.0) for n in range(20)]
            driver.run()
        print(f"\n{len(driver.errors)} of 20 requests found no memory")
        assert driver.errors
        assert all(isinstance(error, OutOfMemory) for error in driver.errors.values())
        assert driver.tokens(stream) == alone
        for request_id in many:
            assert request_id in driver.errors or len(driver.tokens(request_id)) == 8
        engine.check_idle()


def test_a_broken_device_is_told_and_ends_the_process(tmp_path: Path) -> None:
    from tests.support.tiny import write_tiny_base

    base = write_tiny_base(tmp_path / "tiny")
    command = [sys.executable, "-c", BROKEN, str(base)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ended.returncode != 0
    assert "healthy: False" in ended.stdout, ended.stderr[-2000:]
