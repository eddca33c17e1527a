"""The engine on a CUDA device: the oracle's tokens, whatever stands beside a row."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from tests.support.oracle import Oracle  # noqa: E402
from tests.support.serving import Driver, make_engine  # noqa: E402
from tests.support.tiny import TinyAdapter, write_tiny_base  # noqa: E402

pytestmark = pytest.mark.gpu


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
