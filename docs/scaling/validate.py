"""`python -m docs.scaling.validate`: one replica as simulated, and as it is on this machine.

The embedded base, more adapters than slots, callers who ask again when they are answered. An
engine's steps and loads are measured one by one, in a process of its own; from these, and from
nothing that is measured under the traffic, the simulation says what throughput, first token and hit
rate will be. `hatstand serve` gets that traffic over HTTP. Steps are measured before and after it,
and their mean counts: where the two differ much, the machine did other work too, and the comparison
is worth little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from registry import Registry
from registry.bases import find_base, read_base
from server.bench.workload import write_adapters

from .machine import Machine, Speed
from .routing import Anywhere
from .simulation import Simulation
from .traffic import Traffic

BASE = "smollm2-135m"
SLOTS, HOST_ADAPTERS, MAX_BATCH = 6, 1000, 32
TRAFFIC = Traffic(num_adapters=20, zipf=1.0, prompt_tokens=48, answer_tokens=24, is_varied=False)
CALLERS = 8
MOST_TOKENS = 1900  # that the base has room for behind a prompt
ROOT = Path(__file__).parents[2]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=40)
    options.add_argument("--calibrate", metavar="REGISTRY", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.calibrate:
        print(json.dumps(asdict(_calibrated(Path(asked.calibrate)))))
        return
    with tempfile.TemporaryDirectory() as folder:
        registry = _fill(Path(folder))
        before = _speed(registry.folder)
        with _server(registry.folder) as url:
            before = replace(before, request=_overhead(url, before))
            measured = _measure(url, asked.seconds)
        after = replace(_speed(registry.folder), request=before.request)
    print(f"before: {_shown(before)}\n after: {_shown(after)}")
    predicted = _predict(_mean(before, after), asked.seconds)
    print(f"{'':<24}{'predicted':>10}{'measured':>10}{'off by':>8}")
    for name, value in predicted.items():
        off = value / measured[name] - 1
        print(f"{name:<24}{value:>10.3f}{measured[name]:>10.3f}{100 * off:>+7.1f}%")


def _mean(one: Speed, other: Speed) -> Speed:
    pairs = {key: (value, getattr(other, key)) for key, value in asdict(one).items()}
    times = {key: sum(pair) / 2 for key, pair in pairs.items() if not isinstance(pair[0], bool)}
    return replace(one, **times)


def _names() -> list[str]:
    return [f"bench{number}" for number in range(TRAFFIC.num_adapters)]


def _fill(folder: Path) -> Registry:
    registry, record = Registry.open(folder / "registry"), read_base(find_base(BASE))
    for name, path in write_adapters(folder / "made", record, TRAFFIC.num_adapters).items():
        registry.push(path, name, base=record)
    return registry


def _calibrated(registry: Path) -> Speed:
    from .calibrate import calibrate

    return calibrate(BASE, Registry.open(registry), _names(), SLOTS)


def _speed(registry: Path) -> Speed:
    """Measured in a process that ends, so that its memory and threads are gone."""
    command = [sys.executable, "-m", "docs.scaling.validate", "--calibrate", str(registry)]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return Speed(**json.loads(output.splitlines()[-1]))


@contextlib.contextmanager
def _server(registry: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "clients", "serve", f"--base={BASE}", f"--port={port}"]
    command += [f"--registry={registry}", "--device=cpu", f"--max-slots={SLOTS}", "--max-rank=16"]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            while not _is_ready(url):
                assert process.poll() is None, "the server left before it was ready"
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def _is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz").status_code == 200
    return False


def _body(adapter: int, chance: np.random.Generator, num_tokens: int) -> dict[str, Any]:
    return {
        "model": f"bench{adapter}",
        "prompt": chance.integers(200, 5000, TRAFFIC.prompt_tokens).tolist(),
        "max_tokens": num_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }


def _ask(client: httpx.Client, adapter: int, chance: np.random.Generator) -> tuple[float, float]:
    """One streamed answer: seconds to its first text, and in all."""
    body = _body(adapter, chance, TRAFFIC.answer_tokens)
    began, first = time.perf_counter(), 0.0
    with client.stream("POST", "/v1/completions", json=body) as reply:
        for line in reply.iter_lines():
            first = first or (time.perf_counter() - began if line.startswith("data: ") else 0.0)
    assert reply.status_code == 200
    return first, time.perf_counter() - began


def _overhead(url: str, speed: Speed) -> float:
    """What a first token takes beyond the engine's part, beside one stream that keeps it busy.

    The engine's part is half a step, until it can begin, and the pass over the prompt. The stream
    is one long one: others would begin anew in step with the request, and share its pass.
    """
    chance = np.random.default_rng(1)
    begun, over = threading.Event(), threading.Event()

    def keep_busy() -> None:
        body = _body(0, chance, MOST_TOKENS)
        with (
            httpx.Client(base_url=url, timeout=60) as client,
            client.stream("POST", "/v1/completions", json=body) as reply,
        ):
            for _ in reply.iter_lines():
                begun.set()
                if over.is_set():
                    return
        assert over.is_set(), "the long stream ended before it was to"

    busy = threading.Thread(target=keep_busy)
    busy.start()
    assert begun.wait(60), "the long stream did not begin"
    with httpx.Client(base_url=url, timeout=60) as client:
        firsts = [_ask(client, 0, chance)[0] for _ in range(25)]
    over.set()
    busy.join()
    in_engine = speed.of_step(1, 1, 0) / 2 + speed.of_step(1, 1, TRAFFIC.prompt_tokens)
    return max(0.0, float(np.median(firsts)) - in_engine)


def _predict(speed: Speed, seconds: float) -> dict[str, float]:
    machine = Machine(
        speed, SLOTS, MAX_BATCH, chunk=256, lone_chunk=256, host_adapters=HOST_ADAPTERS
    )
    simulation = Simulation(machine, 1, TRAFFIC, Anywhere, seed=7)
    outcome = simulation.run_callers(CALLERS, seconds * 5, warm_up=seconds)
    return _figures(
        outcome.requests_a_second, outcome.ttft, outcome.hit_rate, outcome.steps_a_second
    )


def _figures(requests: float, ttft: np.ndarray, hit_rate: float, steps: float) -> dict[str, float]:
    return {
        "steps a second": steps,
        "tokens a second": requests * TRAFFIC.answer_tokens,
        "requests a second": requests,
        "first token, mean, ms": 1e3 * float(ttft.mean()),
        "first token, p50, ms": 1e3 * float(np.percentile(ttft, 50)),
        "first token, p99, ms": 1e3 * float(np.percentile(ttft, 99)),
        "slot hit rate": hit_rate,
    }


def _measure(url: str, seconds: float) -> dict[str, float]:
    """What so many callers see for so long, the first quarter left out."""
    over = time.perf_counter() + seconds * 1.25
    counted = time.perf_counter() + seconds * 0.25
    firsts: list[float] = []

    def call(number: int) -> None:
        chance = np.random.default_rng(100 + number)
        with httpx.Client(base_url=url, timeout=60) as client:
            while time.perf_counter() < over:
                first, _ = _ask(client, int(TRAFFIC.adapters(chance, 1)[0]), chance)
                if counted < time.perf_counter() < over:
                    firsts.append(first)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    time.sleep(seconds * 0.25)
    before = _counters(url)
    time.sleep(max(0.0, over - time.perf_counter()))
    activations, steps = (after - then for after, then in zip(_counters(url), before, strict=True))
    for caller in callers:
        caller.join()
    hit_rate = 1 - activations / len(firsts)
    return _figures(len(firsts) / seconds, np.array(firsts), hit_rate, steps / seconds)


def _counters(url: str) -> tuple[float, float]:
    """Slots written and steps run since the server's start."""
    written = 'vllm:lora_adapter_load_seconds_count{transition="activate"}'
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return float(values[written]), float(values["hatstand_steps_total"])


def _shown(speed: Speed) -> str:
    times = {key: value for key, value in asdict(speed).items() if not isinstance(value, bool)}
    return ", ".join(f"{key} {1e3 * value:.2f} ms" for key, value in times.items())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
