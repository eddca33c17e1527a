"""What traces cost: `python -m tests.server.api.measure_tracing`.

Processor time of a whole request (a chat of 64 tokens, streamed, through every layer, with an
engine that computes nothing), without traces, with all of them, and with one in ten; spans go to a
collector in a process of its own, and the exporter's thread counts. Rounds alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import time
from multiprocessing.synchronize import Event

from registry.tracing import Tracing, open_tracing
from tests.server.api.fakes import FakeEngine, Site, make_site, open_client
from tests.support.otlp import collecting

NUM_TOKENS = 64
BODY = {"model": "pirate", "messages": [{"role": "user", "content": "hi"}], "stream": True}
SIDES = {"off": None, "all": "1.0", "one in ten": "0.1"}  # the share that is sampled


def collect(urls: multiprocessing.Queue[str], over: Event) -> None:
    """A collector, until it is over."""
    with collecting() as collector:
        urls.put(collector.url)
        over.wait()


def trace_to(url: str, share: str | None) -> Tracing | None:
    if share is None:
        return None
    os.environ |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": share,
    }
    return open_tracing("measured")


def site(tracing: Tracing | None) -> Site:
    engine = FakeEngine(["word "] * NUM_TOKENS)
    engine.max_context = 1 << 20
    return make_site(engine=engine, tracing=tracing)


async def seconds_a_request(tracing: Tracing | None, num_requests: int) -> float:
    async with open_client(site(tracing).app) as client:
        await client.post("/v1/chat/completions", json=BODY)
        began = time.process_time()
        for _ in range(num_requests):
            await client.post("/v1/chat/completions", json=BODY)
    # Closing the app has handed over what was left.
    return (time.process_time() - began) / num_requests


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=400)
    options.add_argument("--rounds", type=int, default=7)
    asked = options.parse_args()
    context = multiprocessing.get_context("spawn")
    urls, over = context.Queue(), context.Event()
    process = context.Process(target=collect, args=(urls, over))
    process.start()
    url = urls.get()
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(asked.rounds):
        for side, share in SIDES.items():
            run = seconds_a_request(trace_to(url, share), asked.requests)
            seconds[side].append(asyncio.run(run))
    over.set()
    process.join()
    off = statistics.median(seconds["off"])
    for side, values in seconds.items():
        median = statistics.median(values)
        print(f"{side:>10}: {1e6 * median:7.0f} µs a request, {1e6 * (median - off):+5.0f} µs")


if __name__ == "__main__":
    main()
