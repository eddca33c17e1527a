"""A thousand streams, dropped at any moment: nothing of them stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry import Registry
from registry.bases import read_base
from server.api.listener import bind
from server.assembly import assemble
from server.settings import EngineOptions, Settings
from tests.support.tiny import TinyAdapter, write_tiny_base
from tests.support.waiting import PATIENCE

NUM_STREAMS, AT_ONCE = 1000, 64
ENGINE = EngineOptions(device="cpu", kv_memory=1 << 20, max_rank=8, max_slots=2)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Three adapters for two slots, and KV blocks for a few of the streams at a time."""
    base = write_tiny_base(tmp_path / "tiny")
    registry = Registry.open(tmp_path / "registry")
    for seed, name in enumerate(("a", "b", "c")):
        folder = TinyAdapter(name, seed=seed).write(base, tmp_path / name)
        registry.push(folder, name, base=read_base(base))
    return Settings(base=str(base), registry=registry.folder, port=0, engine=ENGINE)


async def test_nothing_of_a_thousand_dropped_streams_stays(settings: Settings) -> None:
    server = assemble(settings, lambda *_: None)
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        first = {"model": "a", "prompt": "x", "max_tokens": 2, "stream": True}
        await _ask_to_the_end(port, first)  # it starts what watches over all streams
        fresh, tasks = await _state(port), len(_tasks())
        await _ask_and_drop(port)
        for _ in range(1000):
            left, names = await _state(port), _tasks()
            if left["queue"] == fresh["queue"] and len(names) <= tasks:
                break
            await asyncio.sleep(0.02)
        server.begin_drain()
        await serving
    assert left["queue"] == fresh["queue"]
    assert (left["queue"]["running"], left["queue"]["waiting"]) == (0, 0)
    assert left["kv"] == fresh["kv"]
    assert [held["running"] for held in left["slots"]["resident"]].count(0) == 3
    assert left["slots"]["loading"] == []
    assert len(names) <= tasks, names
    assert left["counters"]["adapter_evictions"] > 0  # or the slots were never short


def _tasks() -> list[str]:
    return sorted(str(task.get_coro()) for task in asyncio.all_tasks())


async def _state(port: int) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        reply = await client.get(f"http://127.0.0.1:{port}/debug/state")
    state: dict[str, Any] = reply.json()
    return state


async def _ask_to_the_end(port: int, body: dict[str, Any]) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        reply = await client.post(f"http://127.0.0.1:{port}/v1/completions", json=body)
    assert reply.text.endswith("data: [DONE]\n\n")


async def _ask_and_drop(port: int) -> None:
    chance, room = random.Random(7), asyncio.Semaphore(AT_ONCE)

    async def one(patience: float) -> None:
        body = {
            "model": chance.choice(["tiny", "a", "b", "c"]),
            "prompt": "x" * chance.randint(1, 100),
            "max_tokens": chance.randint(1, 60),
            "stream": chance.random() < 0.7,
        }
        async with room:
            await _ask(port, body, patience)

    patience = (0.0, 0.01, 0.05, 0.2)
    await asyncio.gather(*(one(chance.choice(patience)) for _ in range(NUM_STREAMS)))


async def _ask(port: int, body: dict[str, Any], patience: float) -> None:
    """Read for so many seconds, then reset the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            while await reader.read(1000):
                pass
    writer.transport.abort()
