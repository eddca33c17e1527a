"""A device without memory left: one request is told so, everybody else's tokens stay the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from server.engine import build
from server.engine.arena import Arena
from server.engine.device_errors import memory_for_start
from server.engine.device_executor import DeviceExecutor
from server.engine.engine import Engine
from server.errors import AdapterLoadError, OutOfMemory, StartupError
from tests.support.serving import Driver, make_engine

NAMES = (None, "a", "b", "c", "d")
JOBS = [
    (NAMES[n % 5], [random.Random(n).randrange(256) for _ in range(3 + 7 * n)]) for n in range(11)
]


def no_memory() -> NoReturn:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 MiB.")


def failing(work: Callable[..., Any], calls: Iterable[int]) -> Callable[..., Any]:
    """`work`, but at these calls, counted from 0, the device has no memory once it is done."""
    numbers, left = iter(range(10**6)), set(calls)

    def run(*args: Any, **options: Any) -> Any:
        result = work(*args, **options)
        if next(numbers) in left:
            no_memory()
        return result

    return run


@pytest.fixture
def engine(tiny_base: Path, tiny_adapters: dict[str, Path]) -> Engine:
    return make_engine(tiny_base, tiny_adapters, chunk=24, fused=True)


def say_all(engine: Engine, **params: Any) -> tuple[Driver, list[str]]:
    driver = Driver(engine)
    ids = [driver.submit(tokens, name, max_tokens=20, **params) for name, tokens in JOBS]
    driver.run()
    engine.check_idle()
    return driver, ids


@pytest.mark.parametrize("part", ["_decode", "_prefill"])
@pytest.mark.parametrize("calls", [(0,), (2, 3, 9), range(0, 12, 2)])
def test_a_step_without_room_ends_its_newest_request(
    part: str, calls: Iterable[int], engine: Engine, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    undisturbed, expected = say_all(make_engine(tiny_base, tiny_adapters, chunk=24, fused=True))
    executor = engine._executor
    assert isinstance(executor, DeviceExecutor)
    setattr(executor, part, failing(getattr(executor, part), calls))
    driver, ids = say_all(engine)
    assert 0 < len(driver.errors) <= len(list(calls))
    assert all(isinstance(error, OutOfMemory) for error in driver.errors.values())
    for request_id, other in zip(ids, expected, strict=True):
        if request_id not in driver.errors:
            assert driver.tokens(request_id) == undisturbed.tokens(other)
    again, ids = say_all(engine)
    assert not again.errors


def test_drawing_without_room_leaves_the_others_draws_alone(engine: Engine) -> None:
    params = {"temperature": 1.0, "seed": 5}
    undisturbed, expected = say_all(engine, **params)
    steps = engine._executor.steps  # type: ignore[attr-defined]
    steps.draw = failing(steps.draw, (4, 11))
    driver, ids = say_all(engine, **params)
    assert len(driver.errors) == 2
    for request_id, other in zip(ids, expected, strict=True):
        if request_id not in driver.errors:
            assert driver.tokens(request_id) == undisturbed.tokens(other)


def test_nobody_is_left_when_nothing_fits(engine: Engine) -> None:
    executor = engine._executor
    assert isinstance(executor, DeviceExecutor)
    executor._prefill = failing(executor._prefill, range(1000))  # type: ignore[method-assign]
    driver, ids = say_all(engine)
    assert set(driver.errors) == set(ids)


def test_an_adapter_that_cannot_be_unpacked_fails_alone(engine: Engine) -> None:
    slots = engine.adapters._slots  # type: ignore[attr-defined]
    assert isinstance(slots, Arena)
    slots._unpack = failing(slots._unpack, (0,))
    driver = Driver(engine)
    failed = driver.submit([1, 2, 3], "a", max_tokens=5)
    base = driver.submit([1, 2, 3], max_tokens=5)
    driver.run()
    error = driver.errors[failed]
    assert isinstance(error, AdapterLoadError)
    assert error.status == 503
    assert "memory" in error.message
    assert len(driver.tokens(base)) == 5
    again = driver.submit([1, 2, 3], "a", max_tokens=5)
    driver.run()
    assert len(driver.tokens(again)) == 5
    engine.check_idle()


def test_a_broken_device_is_no_want_of_memory(engine: Engine) -> None:
    def launch(*_: Any) -> NoReturn:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    engine._executor.launch = launch  # type: ignore[method-assign]
    driver = Driver(engine)
    driver.submit([1, 2, 3], max_tokens=5)
    with pytest.raises(torch.AcceleratorError):
        driver.run()


def test_a_start_without_room_says_what_to_give(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build_device", lambda *_, **__: no_memory())
    with pytest.raises(StartupError, match="--kv-memory"):
        make_engine(tiny_base, fused=True)
    with pytest.raises(RuntimeError, match="shapes"), memory_for_start():
        raise RuntimeError("shapes do not match")
