"""The engine on a CUDA device: the oracle's tokens, the 7B shape's size, and its speed today."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from server.bench.workload import write_adapters  # noqa: E402
from tests.support.oracle import Oracle  # noqa: E402
from tests.support.serving import Driver, make_engine  # noqa: E402
from tests.support.tiny import TinyAdapter, write_tiny_base  # noqa: E402

pytestmark = pytest.mark.gpu

MISTRAL_7B: dict[str, Any] = {
    "vocab_size": 32768,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "initializer_range": 0.02,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
RAM_DISK = Path("/dev/shm")
WEIGHT_LIMIT = 4.5e9  # bytes; the decoded block scales take 0.33 GB of it


@pytest.fixture(scope="module")
def ram_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = RAM_DISK / "hatstand-test" if RAM_DISK.is_dir() else tmp_path_factory.mktemp("ram")
    folder.mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def prompt(number: int, length: int, vocab: int) -> list[int]:
    source = random.Random(number)
    return [source.randrange(vocab) for _ in range(length)]


@pytest.mark.parametrize("weights", ["dense", "nf4"])
def test_any_mix_yields_the_oracles_tokens(weights: str, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base")
    made = [TinyAdapter("a", rank=4), TinyAdapter("b", rank=16, seed=1), TinyAdapter("c", rank=2)]
    adapters = {adapter.name: adapter.write(base, tmp_path / adapter.name) for adapter in made}
    oracle = Oracle(base, adapters, dtype=torch.float32, nf4=weights == "nf4", device="cuda")
    engine = make_engine(base, adapters, device="cuda", weights=weights, chunk=24, max_slots=2)
    driver = Driver(engine)
    names = [None, "a", "b", "c"]
    jobs = [(names[n % 4], prompt(n, 3 + 5 * n, 256)) for n in range(12)]
    ids = [driver.submit(tokens, name, max_tokens=16) for name, tokens in jobs]
    driver.run()
    for request_id, (name, tokens) in zip(ids, jobs, strict=True):
        assert driver.tokens(request_id) == oracle.greedy(name, tokens, 16)
    engine.check_idle()


def test_logits_of_the_7b_shape(ram_disk: Path) -> None:
    """Four layers of it: NF4, bf16, an adapter on every projection."""
    shape = {**MISTRAL_7B, "num_hidden_layers": 4}
    base = write_tiny_base(ram_disk / "four", dtype=torch.bfloat16, **shape)
    adapters = {"a": TinyAdapter("a", rank=16).write(base, ram_disk / "a", std=0.01)}
    oracle = Oracle(base, adapters, dtype=torch.bfloat16, nf4=True, device="cuda")
    engine = make_engine(
        base, adapters, device="cuda", dtype=torch.bfloat16, weights="nf4", kv_memory=1 << 28
    )
    driver = Driver(engine)
    tokens = prompt(0, 100, 32000)
    request_id = driver.submit(tokens, "a", max_tokens=8, logprobs=20)
    driver.run()
    said = tokens + driver.tokens(request_id)
    reference = oracle.logits("a", said).log_softmax(-1)
    worst = max(
        abs(value - float(reference[len(tokens) - 1 + position, token_id]))
        for position, delta in enumerate(driver.deltas[request_id])
        for token_id, _, value in delta.logprobs[0].top
    )
    print(f"\n7B shape, 4 layers, NF4: largest log-probability difference {worst:.4f}")
    assert worst < 0.1


def test_7b_fits_and_its_speed(ram_disk: Path) -> None:
    base = write_tiny_base(
        ram_disk / "whole", dtype=torch.bfloat16, device="cuda", num_hidden_layers=32, **MISTRAL_7B
    )
    from server.bases import open_base

    adapters = write_adapters(ram_disk / "adapters", open_base(str(base)).record, 16)
    torch.cuda.empty_cache()
    started = time.perf_counter()
    engine = make_engine(
        base,
        adapters,
        device="cuda",
        dtype=torch.bfloat16,
        weights="nf4",
        kv_memory=4 << 30,
        max_slots=16,
    )
    print(f"\n7B: load and quantize {time.perf_counter() - started:.1f} s, "
          f"weights {engine.weight_bytes / 1e9:.2f} GB")  # fmt: skip
    assert engine.weight_bytes < WEIGHT_LIMIT
    for streams, count in ((1, 0), (1, 1), (16, 16)):
        speed = decoding_speed(Driver(engine), streams, count)
        print(f"7B: {streams} streams over {count} adapters, plain torch: {speed:.0f} tok/s")


def decoding_speed(driver: Driver, streams: int, adapters: int) -> float:
    """Tokens per second from the eighth token of every stream on."""
    for stream in range(streams):
        name = f"bench{stream % adapters}" if adapters else None
        driver.submit(prompt(stream, 64, 32000), name, max_tokens=40)
    while any(len(deltas) < 8 for deltas in list(driver.deltas.values())[-streams:]):
        driver.step()
    torch.cuda.synchronize()
    before, started = driver.engine.stats().num_generated_tokens, time.perf_counter()
    driver.run()
    torch.cuda.synchronize()
    made = driver.engine.stats().num_generated_tokens - before
    return made / (time.perf_counter() - started)
