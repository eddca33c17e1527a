"""A server over a tiny base with many small adapters, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from safetensors.numpy import load_file, save_file

from registry import Registry
from registry.bases import read_base
from server.settings import EngineOptions, Settings
from tests.support.ports import free_port
from tests.support.tiny import TinyAdapter, write_tiny_base
from tests.support.waiting import PATIENCE, eventually
from tests.torture.asking import Outcome, Question, stream

PASSED_ON = ("max_slots", "max_rank", "max_batch", "max_queue", "kv_memory", "adapter_share")
ROOT = Path(__file__).parents[2]
ENGINE = EngineOptions(device="cpu", kv_memory=4 << 20, max_rank=8, max_slots=8)


def make_settings(
    folder: Path,
    names: Sequence[str],
    engine: EngineOptions = ENGINE,
    *,
    head_dim: int = 24,
    base: Path | None = None,
) -> Settings:
    """A base and a registry with an adapter by each name, all of other weights.

    base: one that is there, instead of a tiny one. head_dim, of that: plain torch runs heads of 24,
    the compiled kernels those of 16.
    """
    base = base or write_tiny_base(folder / "tiny", head_dim=head_dim)
    registry = Registry.open(folder / "registry")
    first = TinyAdapter("first").write(base, folder / "first")
    weights = load_file(first / "adapter_model.safetensors")
    record = read_base(base)
    for number, name in enumerate(names, start=1):
        another = {key: tensor * (1 + number / 100) for key, tensor in weights.items()}
        save_file(another, first / "adapter_model.safetensors", {"format": "pt"})
        registry.push(first, name, base=record)
    shutil.rmtree(first)
    return Settings(base=str(base), registry=registry.folder, port=0, engine=engine)


@contextlib.contextmanager
def server_process(
    settings: Settings, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`hatstand serve` as users start it, once it is ready; with more in its environment."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", "from clients.cli import main; main()", "serve"]
    engine = [
        piece
        for name in PASSED_ON
        if (value := getattr(settings.engine, name)) is not None
        for piece in (f"--{name.replace('_', '-')}", str(value))
    ]
    options = ["--base", settings.base, "--registry", str(settings.registry), "--device", "cpu"]
    where = [*engine, "--port", url.rpartition(":")[2]]
    log = Path(settings.registry).parent / "log"  # a pipe that nobody reads would stop the server
    with (
        log.open("w") as lines,
        subprocess.Popen(
            command + options + where,
            cwd=ROOT,
            stderr=lines,
            env={**os.environ, **(environment or {})},
        ) as process,
    ):
        try:
            eventually(lambda: is_ready(url, process), "the server is ready")
            yield url, process
        finally:
            process.kill()


def is_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server left before it was ready"
    return httpx.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200


def post(url: str, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "prompt": "hello", "max_tokens": 4, **more}
    return httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE)


def queue_of(url: str) -> dict[str, int]:
    """What runs and waits, of which nothing may stay."""
    queue = httpx.get(f"{url}/debug/state", timeout=PATIENCE).json()["queue"]
    return {name: queue[name] for name in ("running", "waiting")}


def until_idle(url: str) -> None:
    eventually(lambda: queue_of(url) == {"running": 0, "waiting": 0}, "nobody is left")


def in_loop(url: str, models: Sequence[str], num_tokens: int) -> list[Outcome]:
    """One stream for each of the models, all at once."""

    async def ask() -> list[Outcome]:
        question = Question(num_tokens)
        return await asyncio.gather(*(stream(url, model, question) for model in models))

    return asyncio.run(ask())
