"""The door to the engine's thread: streams that begin, end and are told, whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch

from server.engine.engine import Engine
from server.engine.request import AdapterRef, GenerationRequest, SamplingParams
from server.engine.worker import EngineWorker
from server.errors import (
    AdapterLoadError,
    ContextLengthExceeded,
    InvalidRequest,
    QueueFull,
    ServingError,
    Unavailable,
)
from tests.support.one_letter import OneLetter
from tests.support.serving import make_engine
from tests.support.waiting import PATIENCE, becomes

pytestmark = pytest.mark.anyio

MakeWorker = Callable[..., EngineWorker]
_ids = itertools.count()
A, B = AdapterRef("a", "a"), AdapterRef("b", "b")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def make_worker(tiny_base: Path, tiny_adapters: dict[str, Path]) -> Iterator[MakeWorker]:
    """Running workers, stopped at the end."""
    made: list[EngineWorker] = []

    def make(**settings: object) -> EngineWorker:
        made.append(EngineWorker(make_engine(tiny_base, tiny_adapters, **settings)))
        made[-1].start()
        return made[-1]

    yield make
    for worker in made:
        worker.stop()


def engine_of(worker: EngineWorker) -> Engine:
    return worker._engine


def hold(worker: EngineWorker, *, after: int = 0) -> threading.Event:
    """Keep the engine from stepping, but for the first few steps, until the event is set."""
    gate, step, steps = threading.Event(), engine_of(worker).step, itertools.count()

    def held(*args: Any) -> bool:
        assert next(steps) < after or gate.wait(PATIENCE)
        return step(*args)

    engine_of(worker).step = held  # type: ignore[method-assign]
    return gate


def hold_loads(worker: EngineWorker) -> threading.Event:
    """Keep adapters from being read until the event is set."""
    source = engine_of(worker).adapters._newcomers._loader._source  # type: ignore[attr-defined]
    gate, load = threading.Event(), source.load
    object.__setattr__(source, "load", lambda ref: gate.wait(PATIENCE) and load(ref))
    return gate


def request(count: int = 5, adapter: AdapterRef | None = None, **params: Any) -> GenerationRequest:
    chosen = {"temperature": 0.0, "ignore_eos": True, "max_tokens": count, **params}
    return GenerationRequest(f"w-{next(_ids)}", (1, 2, 3), SamplingParams(**chosen), adapter)


async def answer(worker: EngineWorker, wanted: GenerationRequest) -> list[int]:
    """Its tokens: how many of them come as one delta is a matter of time."""
    return [token async for delta in worker.generate(wanted) for token in delta.token_ids]


async def test_deltas_stream_until_the_finish_reason(make_worker: MakeWorker) -> None:
    deltas = [delta async for delta in make_worker().generate(request(5))]
    counts = itertools.accumulate(len(delta.token_ids) for delta in deltas)
    assert [delta.num_completion_tokens for delta in deltas] == list(counts)
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert (deltas[-1].finish_reason, deltas[-1].num_completion_tokens) == ("length", 5)


async def test_tokens_are_handed_over_once_the_next_step_is_launched(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, log = make_worker(), list[str]()
    deliver = worker._deliver

    def begin() -> Callable[[], None]:
        log.append("launched")
        return lambda: log.append("read")

    engine_of(worker)._executor = OneLetter(engine_of(worker)._executor, begin)

    def logged() -> None:
        log.extend(["handed over"] * len(worker._outbox))
        deliver()

    monkeypatch.setattr(worker, "_deliver", logged)
    await answer(worker, request(4))
    assert log == [
        *("launched", "launched", "read"),  # a step ahead of what is read
        *("launched", "handed over", "read") * 2,
        *("handed over", "read", "handed over"),  # there is nothing left to launch
    ]


async def test_streams_run_side_by_side(make_worker: MakeWorker) -> None:
    worker = make_worker()
    await worker.load_adapter(B)
    alone = await answer(worker, request(8, A))
    gate = hold(worker)
    refs = (A, B, None, A)
    asked = [asyncio.create_task(answer(worker, request(8, ref))) for ref in refs]
    await becomes(lambda: len(worker._streams) == len(refs))
    gate.set()
    together = await asyncio.gather(*asked)
    assert together[0] == together[3] == alone
    assert any(len(batch) == 3 for batch in worker.stats().recent_batches)


async def test_closing_a_stream_ends_its_sequence(make_worker: MakeWorker) -> None:
    worker = make_worker()
    await worker.load_adapter(A)
    gate = hold(worker, after=10)  # or it might come to its end before the stream is closed
    async with aclosing(worker.generate(request(400, A))) as stream:
        await anext(stream)
    gate.set()
    await becomes(lambda: worker.stats().num_running == 0)
    assert worker.stats().num_generated_tokens < 400
    assert worker.stats().num_free_blocks == worker.stats().num_blocks


async def test_cancelling_whoever_waits_ends_its_sequence(make_worker: MakeWorker) -> None:
    worker = make_worker()
    gate = hold(worker)
    task = asyncio.create_task(answer(worker, request(400)))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gate.set()
    await worker.drain(PATIENCE)
    await becomes(lambda: worker.stats().num_running + worker.stats().num_waiting == 0)
    assert worker.stats().num_free_blocks == worker.stats().num_blocks


async def test_more_than_the_queue_holds_is_refused_at_once(make_worker: MakeWorker) -> None:
    worker = make_worker(max_waiting=2, max_batch=1)
    gate = hold(worker)
    tasks = [asyncio.create_task(answer(worker, request(3))) for _ in range(5)]
    await asyncio.sleep(0.02)
    gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, QueueFull)]
    assert refused
    assert all(error.retry_after for error in refused)
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 5 - len(refused)


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (request(10_000), ContextLengthExceeded),
        (request(3, AdapterRef("missing", "missing")), AdapterLoadError),
    ],
)
async def test_an_error_reaches_its_own_stream_only(
    wanted: GenerationRequest, error: type[ServingError], make_worker: MakeWorker
) -> None:
    worker = make_worker()
    other = asyncio.create_task(answer(worker, request(20)))
    with pytest.raises(error):
        await answer(worker, wanted)
    assert len(await other) == 20
    assert worker.is_healthy


async def test_an_id_that_is_running_already_is_refused(make_worker: MakeWorker) -> None:
    worker = make_worker()
    gate, wanted = hold(worker), request(3)
    first = asyncio.create_task(answer(worker, wanted))
    await asyncio.sleep(0.01)
    with pytest.raises(InvalidRequest, match="running already"):
        await answer(worker, wanted)
    gate.set()
    assert len(await first) == 3


async def test_draining_waits_for_what_was_asked_even_just_now(make_worker: MakeWorker) -> None:
    worker = make_worker()
    gate = hold(worker)
    task = asyncio.create_task(answer(worker, request(30)))
    await asyncio.sleep(0)
    gate.set()
    await worker.drain(PATIENCE)
    assert worker.stats().num_generated_tokens == 30
    assert len(await task) == 30


async def test_draining_gives_up_when_its_time_is_over(make_worker: MakeWorker) -> None:
    worker = make_worker()
    gate = hold(worker)
    task = asyncio.create_task(answer(worker, request(3)))
    await asyncio.sleep(0)
    await worker.drain(0.05)
    assert not task.done()
    gate.set()
    await task


async def test_stopping_tells_the_streams(make_worker: MakeWorker) -> None:
    worker = make_worker()
    loads, gate = hold_loads(worker), hold(worker, after=10)
    running = worker.generate(request(400))
    await anext(running)
    await becomes(lambda: worker.stats().num_steps == 10)
    queued = asyncio.create_task(answer(worker, request(3)))
    loading = asyncio.create_task(worker.load_adapter(A))
    await asyncio.sleep(0.02)
    threading.Thread(target=lambda: worker._stopping.wait(PATIENCE) and gate.set()).start()
    await asyncio.to_thread(worker.stop)
    loads.set()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unavailable):
            async for _ in running:
                pass
        assert isinstance((await asyncio.gather(queued, return_exceptions=True))[0], Unavailable)
        assert isinstance((await asyncio.gather(loading, return_exceptions=True))[0], Unavailable)
    assert not worker.is_healthy
    with pytest.raises(Unavailable, match="shutting down"):
        await answer(worker, request(3))


async def test_when_the_thread_dies_everybody_is_told_that_but_only_the_log_why(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker()
    gate = hold(worker, after=10)
    running = worker.generate(request(400))
    await anext(running)

    def forward(_: object) -> None:
        raise RuntimeError("the device is gone")

    executor: Any = engine_of(worker)._executor
    executor.runner.forward = forward
    gate.set()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unavailable, match="stopped after an error") as caught:
            async for _ in running:
                pass
        assert "device" not in caught.value.message
        assert "the device is gone" in caplog.text
        await becomes(lambda: not worker.is_healthy)
        for asked in (
            answer(worker, request(3)),
            worker.load_adapter(A),
            worker.unload_adapter("a"),
        ):
            with pytest.raises(Unavailable, match="stopped after an error"):
                await asked
        await worker.drain(PATIENCE)


def test_what_is_asked_while_the_thread_ends_is_answered(make_worker: MakeWorker) -> None:
    """Ask from another loop, over and over, while the worker stops."""
    for _ in range(10):
        worker, outcomes = make_worker(), []

        async def ask(worker: EngineWorker, outcomes: list[object]) -> None:
            async with asyncio.timeout(PATIENCE):
                while not outcomes or outcomes[-1] == "answered":
                    try:
                        await answer(worker, request(1))
                        outcomes.append("answered")
                    except Unavailable:
                        outcomes.append("refused")

        thread = threading.Thread(target=lambda: asyncio.run(ask(worker, outcomes)))  # noqa: B023
        thread.start()
        time.sleep(0.01)
        worker.stop()
        thread.join(PATIENCE)
        assert outcomes[-1] == "refused"


async def test_a_worker_that_was_not_started_refuses(tiny_base: Path) -> None:
    worker = EngineWorker(make_engine(tiny_base))
    assert not worker.is_healthy
    with pytest.raises(Unavailable):
        await answer(worker, request(1))
    worker.stop()


def test_many_event_loops_share_one_engine(make_worker: MakeWorker) -> None:
    worker = make_worker()
    counts: list[int] = []

    def run() -> None:
        counts.append(len(asyncio.run(answer(worker, request(10)))))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert counts == [10] * 4


def test_a_loop_that_closed_does_no_harm(make_worker: MakeWorker) -> None:
    worker = make_worker()
    loop = asyncio.new_event_loop()
    stream = worker.generate(request(400))
    loop.run_until_complete(anext(stream))
    gate = hold(worker)
    loading = loop.create_task(worker.load_adapter(A))
    loop.run_until_complete(asyncio.sleep(0.01))
    loading.cancel()
    loop.run_until_complete(asyncio.gather(loading, return_exceptions=True))
    loop.close()
    gate.set()
    assert len(asyncio.run(answer(worker, request(20)))) == 20
    assert worker.is_healthy


async def test_an_adapter_can_be_brought_and_sent_away(make_worker: MakeWorker) -> None:
    worker = make_worker(max_slots=1)
    await worker.load_adapter(A)
    assert [(r.digest, r.level) for r in worker.stats().resident] == [("a", "slot")]
    await worker.load_adapter(A)  # once more is no harm
    await worker.load_adapter(B, pin=True)
    assert [r.digest for r in worker.stats().resident if r.pinned] == ["b"]
    with pytest.raises(AdapterLoadError, match="pinned"):
        await worker.load_adapter(A)
    assert await worker.unload_adapter("b")
    assert not await worker.unload_adapter("b")


async def test_adapters_asked_for_together_are_all_brought(make_worker: MakeWorker) -> None:
    worker = make_worker(max_slots=1)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(worker.load_adapter(A), worker.load_adapter(B))
        await asyncio.gather(worker.load_adapter(A), worker.load_adapter(B))


async def test_an_adapter_that_cannot_be_loaded_can_be_asked_for_again(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    folders = engine_of(worker).adapters._newcomers._loader._source._source.folders  # type: ignore[attr-defined]
    folder = folders.pop("a")
    try:
        with pytest.raises(AdapterLoadError):
            await worker.load_adapter(A)
    finally:
        folders["a"] = folder
    await worker.load_adapter(A)


async def test_unloading_ends_while_requests_keep_coming(make_worker: MakeWorker) -> None:
    worker = make_worker()
    stop = asyncio.Event()

    async def keep_asking() -> None:
        while not stop.is_set():
            await answer(worker, request(10, A))

    tasks = [asyncio.create_task(keep_asking()) for _ in range(4)]
    await becomes(lambda: worker.stats().resident)
    async with asyncio.timeout(PATIENCE):
        assert await worker.unload_adapter("a")
    stop.set()
    await asyncio.gather(*tasks)


async def test_unloading_ends_with_the_last_sequence_and_nothing_else_to_do(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    async with asyncio.timeout(PATIENCE), aclosing(worker.generate(request(20, A))) as deltas:
        await anext(deltas)
        gate = hold(worker)
        unloading = asyncio.create_task(worker.unload_adapter("a"))
        await asyncio.sleep(0)  # it has asked
        gate.set()
        async for _ in deltas:
            pass
        assert await unloading


async def test_whoever_waits_for_a_load_hears_that_it_was_called_off(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    gate = hold_loads(worker)
    waiting = asyncio.create_task(worker.load_adapter(A))
    await becomes(lambda: worker.stats().loading)
    await worker.unload_adapter("a")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(AdapterLoadError, match="unloaded while it loaded"):
            await waiting
    gate.set()


async def test_loading_adapters_leaves_the_engine_its_torch_threads(
    make_worker: MakeWorker,
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        worker = make_worker()
    finally:
        torch.set_num_threads(before)
    await worker.load_adapter(A)
    await worker.load_adapter(B)
    later = make_worker()  # its thread comes after the loader's
    for one, expected in ((worker, 3), (later, before)):
        found: list[int] = []
        one._commands.put(lambda found=found: found.append(torch.get_num_threads()))
        await becomes(lambda found=found: found)
        assert found == [expected]
