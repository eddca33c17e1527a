"""The engine on a CUDA device: the oracle's tokens and logits, whatever stands beside a row."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from server.engine.engine import Engine  # noqa: E402
from tests.gpu.shapes import write_7b_shape  # noqa: E402
from tests.support.oracle import Oracle  # noqa: E402
from tests.support.serving import Driver, make_engine  # noqa: E402
from tests.support.tiny import TinyAdapter, write_tiny_base  # noqa: E402

pytestmark = pytest.mark.gpu

RAM_DISK = Path("/dev/shm")
WEIGHT_LIMIT = 4.3e9  # bytes of the whole 7B shape


@pytest.fixture
def ram_disk(tmp_path: Path) -> Iterator[Path]:
    folder = RAM_DISK / "hatstand-test" if RAM_DISK.is_dir() else tmp_path
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


def seven_b(layers: int, folder: Path, gemm: str = "exact") -> tuple[Path, dict[str, Path], Engine]:
    """Layers of the 7B shape with an adapter on every projection, in NF4 and bf16."""
    base = write_7b_shape(folder / "base", layers)
    adapters = {"a": TinyAdapter("a", rank=16).write(base, folder / "a", std=0.01)}
    engine = make_engine(
        base,
        adapters,
        device="cuda",
        dtype=torch.bfloat16,
        weights="nf4",
        gemm=gemm,
        kv_memory=1 << 30,
    )
    return base, adapters, engine


@pytest.mark.parametrize(("layers", "most"), [(1, 0.05), (4, 0.1), (32, 0.25)])
def test_logits_of_the_7b_shape(layers: int, most: float, ram_disk: Path) -> None:
    """Log-probabilities of the 20 best against the oracle's, over a prompt and eight tokens."""
    base, adapters, engine = seven_b(layers, ram_disk)
    assert engine.weight_bytes < WEIGHT_LIMIT
    driver = Driver(engine)
    tokens = prompt(0, 100, 32000)
    request_id = driver.submit(tokens, "a", max_tokens=8, logprobs=20)
    greedy = driver.submit(tokens, "a", max_tokens=8)
    driver.run()
    assert driver.tokens(greedy) == driver.tokens(request_id)
    said = tokens + driver.tokens(request_id)
    del engine, driver.engine
    torch.cuda.empty_cache()
    oracle = Oracle(base, adapters, dtype=torch.bfloat16, nf4=True, device="cuda")
    reference = oracle.logits("a", said).log_softmax(-1)
    differences = [
        abs(value - float(reference[len(tokens) - 1 + position, token_id]))
        for position, delta in enumerate(driver.deltas[request_id])
        for token_id, _, value in delta.logprobs[0].top
    ]
    agreed = sum(
        int(reference[len(tokens) - 1 + position].argmax()) == token
        for position, token in enumerate(said[len(tokens) :])
    )
    print(
        f"\n7B shape, {layers} layers: log-probabilities differ by {max(differences):.4f} at most, "
        f"{sum(differences) / len(differences):.4f} on average; {agreed} of 8 tokens agree"
    )
    assert max(differences) < most


def logprobs_of(engine: Engine, company: int) -> list[float]:
    """The best tokens' log-probabilities of one sequence, so many others decoding beside it."""
    driver = Driver(engine)
    for other in range(company):
        driver.submit(
            prompt(other + 1, 20 + other, 32000), "a" if other % 2 else None, max_tokens=24
        )
    request_id = driver.submit(prompt(0, 40, 32000), "a", max_tokens=8, logprobs=20)
    driver.run()
    return [value for d in driver.deltas[request_id] for _, _, value in d.logprobs[0].top]


@pytest.mark.parametrize(("gemm", "most"), [("batch-invariant", 0.0), ("exact", 0.1)])
def test_company_changes_logits_by_no_more_than_stated(
    gemm: str, most: float, ram_disk: Path
) -> None:
    *_, engine = seven_b(4, ram_disk, gemm)
    alone = logprobs_of(engine, 0)
    worst = 0.0
    for company in (3, 20, 40):
        together = logprobs_of(engine, company)
        worst = max([worst, *(abs(a - b) for a, b in zip(alone, together, strict=True))])
    print(f"\n{gemm}: company changes log-probabilities by {worst:.5f} at most")
    assert worst <= most
