"""`python -m docs.scaling.validate`: one replica as simulated, and as it is on this machine.

The embedded base, more adapters than slots, callers who ask again when they are answered. An
engine's steps and loads are measured one by one, in a process of its own, and what a request takes
over HTTP beside streams of one adapter; from these, and from nothing that is measured under the
traffic, the simulation says what throughput, first token and hit rate will be. `hatstand serve`
then gets that traffic, the very requests, over HTTP. Steps are measured before and after it, and
their mean counts: where the two differ much, the machine did other work too, and the comparison is
worth little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
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
LONG = 200  # tokens of a stream beside which others are measured, behind a prompt of a few
PROBES = 40  # requests beside streams
RUNS = 8  # of the simulation
STEADY = 3.0  # seconds for which steps beside streams are counted
ROOT = Path(__file__).parents[2]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=40)
    options.add_argument("--callers", type=int, default=8)
    options.add_argument("--calibrate", metavar="REGISTRY", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.calibrate:
        print(json.dumps(asdict(_calibrated(Path(asked.calibrate)))))
        return
    with tempfile.TemporaryDirectory() as folder:
        registry = _fill(Path(folder))
        before = _speed(registry.folder)
        with _server(registry.folder) as url:
            few, many = (_beside_streams(url, count) for count in (1, max(2, asked.callers - 1)))
            measured = _measure(url, asked.callers, asked.seconds)
        after = _speed(registry.folder)
    speed = _served(_mean(before, after), few, many)
    for name, each in (("before", before), ("after", after), ("served", speed)):
        print(f"{name}: {_shown(each)}")
    predicted = _predict(speed, asked.callers, asked.seconds)
    print(f"{asked.callers} callers{'':<15}{'predicted':>10}{'measured':>10}{'off by':>8}")
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


def _body(
    adapter: int, chance: np.random.Generator, num_tokens: int, num_prompt: int
) -> dict[str, Any]:
    return {
        "model": f"bench{adapter}",
        "prompt": chance.integers(200, 5000, num_prompt).tolist(),
        "max_tokens": num_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }


def _ask(client: httpx.Client, adapter: int, chance: np.random.Generator) -> tuple[float, float]:
    """One streamed answer: seconds to its first text, and in all."""
    body = _body(adapter, chance, TRAFFIC.answer_tokens, TRAFFIC.prompt_tokens)
    began, first = time.perf_counter(), 0.0
    with client.stream("POST", "/v1/completions", json=body) as reply:
        for line in reply.iter_lines():
            first = first or (time.perf_counter() - began if line.startswith("data: ") else 0.0)
    assert reply.status_code == 200
    return first, time.perf_counter() - began


@dataclass(frozen=True)
class Beside:
    """What was seen of the server beside so many long streams over HTTP. Seconds."""

    streams: int
    step: float  # of the engine
    firsts: np.ndarray  # first tokens of requests that came at any moment

    def over_http(self, speed: Speed) -> float:
        """The first tokens' mean beyond the engine's part.

        That is half a step, until it can begin, and the step with the prompt.
        """
        prompt = speed.beside + speed.per_token_beside * TRAFFIC.prompt_tokens
        return float(self.firsts.mean()) - 1.5 * self.step - prompt

    @property
    def spread(self) -> float:
        """Their standard deviation beyond that of the moment within a step."""
        return math.sqrt(max(0.0, float(self.firsts.var()) - self.step**2 / 12))


def _served(speed: Speed, few: Beside, many: Beside) -> Speed:
    """An engine's speed while it serves: its steps, and the ways over HTTP, by two measurements.

    Steps take longer where the tokens of each leave over HTTP meanwhile.
    """
    more = many.streams - few.streams
    per_row = (many.step - few.step) / more
    step = few.step - per_row * few.streams - speed.per_adapter
    least, most = (each.over_http(speed) for each in (few, many))
    per_stream = max(0.0, (most - least) / more)
    return replace(
        speed,
        step=step,
        per_row=per_row,
        request=max(0.0, least - per_stream * few.streams),
        per_stream=per_stream,
        http_spread=many.spread,
    )


def _beside_streams(url: str, count: int) -> Beside:
    """Measure with pauses that are random, so that requests come at any moment of a step.

    The streams are longer than the traffic's, which would begin anew in step with the request and
    share its pass, and not so long that attention takes more than it does in the traffic.
    """
    chance = np.random.default_rng((1, count))
    over = threading.Event()
    begun = threading.Semaphore(0)
    streams = [
        threading.Thread(target=_keep_busy, args=(url, number, begun, over))
        for number in range(count)
    ]
    for stream in streams:
        stream.start()
    assert all(begun.acquire(timeout=60) for _ in streams), "a long stream did not begin"
    (_, before), began = _counters(url), time.perf_counter()
    time.sleep(STEADY)
    step = (time.perf_counter() - began) / (_counters(url)[1] - before)
    firsts = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for pause in chance.uniform(0, 0.1, PROBES):
            time.sleep(pause)
            firsts.append(_ask(client, 0, chance)[0])
    over.set()
    for stream in streams:
        stream.join()
    return Beside(count, step, np.array(firsts))


def _keep_busy(url: str, number: int, begun: threading.Semaphore, over: threading.Event) -> None:
    """One long stream after the other, until it is over."""
    chance = np.random.default_rng((2, number))
    with httpx.Client(base_url=url, timeout=60) as client:
        while not over.is_set():
            body = _body(0, chance, LONG, 8)
            with client.stream("POST", "/v1/completions", json=body) as reply:
                lines = reply.iter_lines()
                next(lines)
                begun.release()
                for _ in lines:
                    if over.is_set():
                        return


def _predict(speed: Speed, callers: int, seconds: float) -> dict[str, float]:
    """For the very requests that the callers will send, as long as they will be counted.

    Ways over HTTP differ by chance, and with them who shares a step with whom: several runs.
    """
    machine = Machine(
        speed, SLOTS, MAX_BATCH, chunk=256, lone_chunk=256, host_adapters=HOST_ADAPTERS
    )
    runs = [
        Simulation(machine, 1, TRAFFIC, Anywhere, seed).run_callers(
            callers, seconds * 1.25, warm_up=seconds / 4
        )
        for seed in range(RUNS)
    ]
    return _figures(
        float(np.mean([run.requests_a_second for run in runs])),
        np.concatenate([run.ttft for run in runs]),
        float(np.mean([run.hit_rate for run in runs])),
        float(np.mean([run.steps_a_second for run in runs])),
    )


def _figures(requests: float, ttft: np.ndarray, hit_rate: float, steps: float) -> dict[str, float]:
    return {
        "steps a second": steps,
        "tokens a second": requests * TRAFFIC.answer_tokens,
        "requests a second": requests,
        "first token, mean, ms": 1e3 * float(ttft.mean()),
        **{f"first token, p{at}, ms": 1e3 * float(np.percentile(ttft, at)) for at in (50, 95, 99)},
        "slot hit rate": hit_rate,
    }


def _measure(url: str, num_callers: int, seconds: float) -> dict[str, float]:
    """What so many callers see for so long, the first quarter left out."""
    over = time.perf_counter() + seconds * 1.25
    counted = time.perf_counter() + seconds * 0.25
    firsts: list[float] = []

    def call(number: int) -> None:
        chance, asked = np.random.default_rng((3, number)), TRAFFIC.asked_by(number)
        with httpx.Client(base_url=url, timeout=60) as client:
            while time.perf_counter() < over:
                first, _ = _ask(client, next(asked), chance)
                if counted < time.perf_counter() < over:
                    firsts.append(first)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(num_callers)]
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
