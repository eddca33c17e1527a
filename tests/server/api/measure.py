"""What the HTTP layer itself costs: `python -m tests.server.api.measure`.

An engine that computes nothing hands every stream one token a step, from a thread of its own, as
the real one does; a client process reads the streams. Printed: tokens a second that arrived beside
those that were offered, the time from a token's making to its reading, the time from a request to
the first byte of its stream (all are opened at once, and one by one), and the processor's share.
With --witnessed another process could end the answers, as under `hatstand serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import socket
import threading
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from typing import Any

import uvicorn

from server.api.heads import BoundedHeads
from server.api.witnessed import WitnessedHttp
from server.engine.request import EngineStats, GenerationDelta, GenerationRequest
from server.last_words import Witness, copies
from server.last_words.copies import Given
from server.last_words.pages import Pages, create_file
from server.settings import ApiSettings
from tests.server.api.fakes import FakeEngine, make_site

CHUNK = 1 << 16
TEXT = re.compile(rb'"content":" ([0-9.]+)"')


class PacedEngine(FakeEngine):
    """Gives each running stream a token every `interval` seconds, all in one go."""

    def __init__(self, interval: float) -> None:
        super().__init__()
        self.max_context = 1 << 20
        self._interval = interval
        self._streams: dict[str, tuple[asyncio.Queue[GenerationDelta], GenerationRequest]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = threading.Event()

    def stop(self) -> None:
        self._over.set()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._run, daemon=True).start()
        queue: asyncio.Queue[GenerationDelta] = asyncio.Queue()
        self._streams[request.request_id] = queue, request
        try:
            while True:
                delta = await queue.get()
                yield delta
                if delta.finish_reason is not None:
                    return
        finally:
            self._streams.pop(request.request_id, None)

    def stats(self) -> EngineStats:
        return replace(super().stats(), max_waiting=10_000)

    def _run(self) -> None:
        assert self._loop is not None
        made: dict[str, int] = {}
        due = time.perf_counter()
        while not self._over.wait(max(0.0, due - time.perf_counter())):
            due += self._interval
            step = []
            for request_id, (queue, request) in list(self._streams.items()):
                made[request_id] = number = made.get(request_id, 0) + 1
                if number <= request.params.max_tokens:
                    step.append((queue, _delta(number, request)))
            self._loop.call_soon_threadsafe(_hand_over, step)


def _delta(number: int, request: GenerationRequest) -> GenerationDelta:
    is_last = number == request.params.max_tokens
    return GenerationDelta(
        text=f" {time.monotonic():.6f}",  # both processes read the same clock
        token_ids=(number,),
        finish_reason="length" if is_last else None,
        num_prompt_tokens=8,
        num_completion_tokens=number,
    )


def _hand_over(step: list[tuple[asyncio.Queue[GenerationDelta], GenerationDelta]]) -> None:
    for queue, delta in step:
        queue.put_nowait(delta)


async def _read(port: int, num_tokens: int, ages: list[float], firsts: list[float]) -> int:
    body = json.dumps(
        {
            "model": "pirate",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
            "max_tokens": num_tokens,
        }
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    asked = time.monotonic()
    count, rest, is_over, first = 0, b"", False, None
    while not is_over:
        piece = await reader.read(CHUNK)
        if not piece:
            break
        now = time.monotonic()
        if first is None:
            first = now - asked
            firsts.append(first)
        *events, rest = (rest + piece).split(b"\n\n")
        made = [float(found[1]) for event in events if (found := TEXT.search(event))]
        count += len(made)
        ages += [now - each for each in made]
        is_over = any(event.endswith(b"[DONE]") for event in events)
    writer.close()
    return count


def client(port: int, num_streams: int, num_tokens: int, results: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    """Open every stream, read them to the end, and say how it went."""

    async def everything() -> tuple[int, float, list[float], list[float], list[float]]:
        ages: list[float] = []
        crowded: list[float] = []
        alone: list[float] = []
        for _ in range(50):
            await _read(port, 1, [], alone)
        started = time.perf_counter()
        reads = (_read(port, num_tokens, ages, crowded) for _ in range(num_streams))
        counts = await asyncio.gather(*reads)
        return sum(counts), time.perf_counter() - started, ages, alone, crowded

    results.put(asyncio.run(everything()))


def hold(channel: socket.socket) -> None:
    """What a parent does while its child lives, but for the event loop around it."""
    channel.setblocking(True)
    held = {}
    while (message := copies.receive(channel)) is not None:
        old = held.pop(message.page, None)
        if old is not None and old.connection is not None:
            old.connection.close()
        if isinstance(message, Given):
            held[message.page] = message


def witnessed() -> Any:
    """The protocol of `hatstand serve`, with a process that is given copies."""
    ours, theirs = copies.channel()
    context = multiprocessing.get_context("spawn")
    context.Process(target=hold, args=(ours,), daemon=True).start()
    ours.close()
    return partial(WitnessedHttp, Witness(theirs, Pages(create_file(1 << 12))))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--streams", type=int, default=256)
    options.add_argument("--rate", type=float, default=20_000, help="tokens a second, in all")
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--profile", action="store_true")
    options.add_argument("--witnessed", action="store_true")
    asked = options.parse_args()
    interval = asked.streams / asked.rate
    engine = PacedEngine(interval)
    site = make_site(ApiSettings(), engine)
    http = witnessed() if asked.witnessed else BoundedHeads
    config = uvicorn.Config(
        site.app, http=http, port=0, log_level="warning", ws="none", access_log=False
    )
    server = uvicorn.Server(config)
    results: multiprocessing.Queue = multiprocessing.get_context("spawn").Queue()  # type: ignore[type-arg]

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        process = multiprocessing.get_context("spawn").Process(
            target=client, args=(port, asked.streams, int(asked.seconds / interval), results)
        )
        process.start()
        while process.exitcode is None and results.empty():
            await asyncio.sleep(0.05)
        server.should_exit = True
        await serving

    used = time.process_time()
    if asked.profile:
        import cProfile
        import pstats

        profile = cProfile.Profile()
        profile.runcall(asyncio.run, run())
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    else:
        asyncio.run(run())
    used = time.process_time() - used
    tokens, seconds, ages, alone, crowded = results.get()
    for times in (ages, alone, crowded):
        times.sort()
    print(f"offered {asked.rate:,.0f} tok/s over {asked.streams} streams")
    print(f"arrived {tokens / seconds:,.0f} tok/s ({tokens:,} in {seconds:.1f} s)")
    print(
        f"age of a token when read: p50 {1e3 * ages[len(ages) // 2]:.1f} ms, "
        f"p99 {1e3 * ages[len(ages) * 99 // 100]:.1f} ms"
    )
    for name, times in (("alone", alone), ("all at once", crowded)):
        print(
            f"first byte of a stream, {name}: p50 {1e3 * times[len(times) // 2]:.1f} ms, "
            f"p99 {1e3 * times[len(times) * 99 // 100]:.1f} ms"
        )
    print(f"server: {1e6 * used / tokens:.1f} µs of processor a token")


if __name__ == "__main__":
    main()
