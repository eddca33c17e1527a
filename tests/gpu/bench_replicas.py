"""What a second GPU of the same host brings: `python -m tests.gpu.bench_replicas`.

    python -m tests.gpu.bench_replicas [--layers 32] [--replicas 2 1] [--streams 64]

A random base of the 7B shape is written once, in NF4, to the RAM disk; `hatstand serve --replicas`
is then started with each number of replicas and asked for 64 streams a replica over 64 adapters.
Clients are processes of their own. `--device cpu` tries it with a tiny base.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from server.api.listener import bind
from server.bench import http_client
from server.replicas import serve_replicas
from server.settings import EngineOptions, Settings

if TYPE_CHECKING:
    from server.api.draining import DrainingServer

ADAPTERS = 64
STREAMS_A_CLIENT = 32
PROMPT = list(range(100, 162))
SHORT, LONG = 64, 320  # generated tokens; decoding speed is taken between the two
PATIENCE = 110  # seconds for replicas to start


@dataclass(frozen=True)
class Measured:
    """Tokens per second of all replicas together, and how many requests each was given."""

    replicas: int
    start: float  # seconds
    decoding: float
    whole: float  # prompts and first tokens included
    given: dict[str, int]

    @property
    def hit_rate(self) -> float:
        """Share of requests whose adapter was in a slot of the replica that they were given."""
        hits = sum(count for labels, count in self.given.items() if 'adapter="slot"' in labels)
        return hits / sum(self.given.values())

    def __str__(self) -> str:
        rates = f"{self.decoding:16,.0f} {self.whole:13,.0f} {self.hit_rate:5.0%}"
        return f"{self.replicas:8} {self.start:9.1f} {rates}  {self.given}"


def write(folder: Path, layers: int, device: str) -> None:
    """Runs in a process of its own, so that the device's memory is given back."""
    from tests.gpu.nf4_base import write_nf4_base, write_random_adapter
    from tests.gpu.shapes import MISTRAL_7B, open_unhashed
    from tests.support.tiny import write_tiny_base

    if device == "cpu":
        base = write_tiny_base(folder / "base", max_position_embeddings=1024, vocab_size=512)
    else:
        shape = {**MISTRAL_7B, "num_hidden_layers": layers}
        base = write_nf4_base(folder / "base", shape)
    write_random_adapter(folder / "adapter", open_unhashed(base).record, rank=16, device=device)


def assemble(
    settings: Settings, _report: Callable[[str, int, int], None], announce: Callable[[], None]
) -> DrainingServer:
    """A replica whose adapters all have the same file, under ADAPTERS names."""
    from server.api.app import create_app
    from server.api.draining import DrainingServer
    from server.api.readiness import Readiness
    from server.bench.device_http import NamesRegistry
    from server.bench.device_work import device_settings
    from server.engine.build import build_engine, start_worker
    from server.engine.config import EngineSettings
    from tests.gpu.shapes import open_unhashed
    from tests.support.serving import FolderSource

    logging.getLogger().setLevel(logging.WARNING)  # no line for each request
    base = open_unhashed(Path(settings.base))
    adapter = Path(settings.base).with_name("adapter")
    source = FolderSource({f"bench{n}": adapter for n in range(ADAPTERS)}, base)
    if settings.engine.device == "cpu":
        limits = replace(EngineSettings.on("cpu"), max_slots=64, max_rank=16, kv_memory=64 << 20)
    else:
        limits = replace(device_settings(), host_memory=6 * 2**30)
    worker = start_worker(build_engine(base, source, limits))
    readiness = Readiness(worker, ())
    app = create_app(worker, NamesRegistry(base), base, readiness=readiness)
    return DrainingServer(app, readiness, drain_timeout=10, announce=announce)


def serve(settings: Settings, port: int) -> None:
    logging.basicConfig(level=logging.WARNING)
    from tests.gpu import bench_replicas as itself  # by the name that other processes know it by

    listener = bind("127.0.0.1", port)
    serve_replicas(settings, listener, itself.assemble, lambda: None)


def measure(folder: Path, count: int, streams: int, device: Any) -> Measured:
    options = EngineOptions(device=device)
    settings = Settings(base=str(folder / "base"), replicas=count, engine=options)
    started = time.perf_counter()
    with running(settings) as port:
        start = time.perf_counter() - started
        ask(port, ADAPTERS, 1)  # every adapter finds its replica
        time.sleep(2)
        ask(port, streams * count, 8)
        before = given(port)
        short, long = (ask(port, streams * count, tokens) for tokens in (SHORT, LONG))
        asked = {number: n - before.get(number, 0) for number, n in given(port).items()}
    tokens = streams * count
    return Measured(
        replicas=count,
        start=start,
        decoding=tokens * (LONG - SHORT) / (long - short),
        whole=tokens * LONG / long,
        given=asked,
    )


@contextmanager
def running(settings: Settings) -> Iterator[int]:
    """Replicas that are ready, and their port."""
    with bind("127.0.0.1", 0) as free:
        port: int = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(settings, port))
    process.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while sum(ready(port)) < settings.replicas:
            if time.monotonic() > deadline or not process.is_alive():
                raise RuntimeError("the replicas did not start")
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.join(20)
        process.kill()


def ask(port: int, streams: int, count: int) -> float:
    """Seconds until all streams, over the adapters in turn, have had so many tokens."""
    bodies = [
        {
            "model": f"bench{stream % ADAPTERS}",
            "prompt": [stream % 256, count % 256, *PROMPT],
            "max_tokens": count,
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for stream in range(streams)
    ]
    program = [sys.executable, str(Path(http_client.__file__)), "127.0.0.1", str(port)]
    shares = [bodies[n : n + STREAMS_A_CLIENT] for n in range(0, streams, STREAMS_A_CLIENT)]
    clients = [
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in shares
    ]
    for client, share in zip(clients, shares, strict=True):
        assert client.stdin is not None
        client.stdin.write(json.dumps(share))
        client.stdin.close()
    told = [json.loads(client.stdout.read()) for client in clients if client.stdout]
    for client in clients:
        client.wait()
    if sum(each["tokens"] for each in told) != streams * count:
        raise RuntimeError("not every token came")
    return max(float(each["seconds"]) for each in told)


def ready(port: int) -> list[int]:
    try:
        return [int(value) for _, value in series(port, "hatstand_replica_ready{")]
    except OSError:
        return []


def given(port: int) -> dict[str, int]:
    """Requests by replica and where their adapter was."""
    return {
        labels: int(value) for labels, value in series(port, "hatstand_replica_requests_total{")
    }


def series(port: int, start: str) -> list[tuple[str, float]]:
    """(labels, value) of the metrics that begin so."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith(start)]
    split = [line.removeprefix(start).rpartition(" ") for line in lines]
    return [(labels.rstrip("}"), float(value)) for labels, _, value in split]


def main(asked: argparse.Namespace) -> None:
    root = Path("/dev/shm/hatstand-replicas")
    shutil.rmtree(root, ignore_errors=True)
    spawn = multiprocessing.get_context("spawn")
    writing = spawn.Process(target=write, args=(root, asked.layers, asked.device))
    writing.start()
    writing.join()
    head = f"{'replicas':>8} {'start, s':>9} {'decoding, tok/s':>16} {'whole, tok/s':>13}"
    print(f"{head} {'hits':>5}  requests")
    measured = []
    for count in asked.replicas:  # printed one by one: a run that is cut short has shown the others
        measured.append(measure(root, count, asked.streams, asked.device))
        print(measured[-1], flush=True)
    shutil.rmtree(root)
    if out := os.environ.get("OUT"):
        figures = json.dumps([vars(each) for each in measured], indent=2)
        (Path(out) / "replicas.json").write_text(figures)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.gpu.bench_replicas")
    made.add_argument("--layers", type=int, default=32)
    made.add_argument("--replicas", type=int, nargs="+", default=[2, 1])
    made.add_argument("--streams", type=int, default=64, help="for each replica")
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    return made


if __name__ == "__main__":
    main(parser().parse_args())
