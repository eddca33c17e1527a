"""Embeddings and sums of adapters on a CUDA device: what the oracle says, in any company."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from server.engine.composition import compose  # noqa: E402
from server.engine.request import AdapterRef, WeightedAdapter  # noqa: E402
from tests.support.oracle import Oracle  # noqa: E402
from tests.support.serving import Driver, make_engine  # noqa: E402
from tests.support.tiny import TinyAdapter, write_tiny_base  # noqa: E402

pytestmark = pytest.mark.gpu

SCALES = {"a": 0.7, "b": -0.4}
PROMPTS = [[random.Random(length).randrange(256) for _ in range(length)] for length in (1, 17, 70)]


@pytest.mark.parametrize("weights", ["dense", "nf4"])
def test_vectors_and_sums_are_the_oracles(weights: str, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base")
    made = [
        TinyAdapter("a", rank=4),
        TinyAdapter("b", rank=3, seed=1, targets=("q_proj", "up_proj")),
    ]
    adapters = {adapter.name: adapter.write(base, tmp_path / adapter.name) for adapter in made}
    oracle = Oracle(base, adapters, dtype=torch.float32, nf4=weights == "nf4", device="cuda")
    oracle.add_up("sum", SCALES)
    both = compose([WeightedAdapter(AdapterRef(n, n), scale) for n, scale in SCALES.items()])
    driver = Driver(make_engine(base, adapters, device="cuda", weights=weights, chunk=24))
    names = {None: None, "a": "a", "sum": both}
    talking = [
        (name, p, driver.submit(p, ref, max_tokens=16))
        for name, ref in names.items()
        for p in PROMPTS
    ]
    for _ in range(3):
        driver.step()
    vectors = [
        (name, prompt, pooling, driver.embed(prompt, ref, pooling))
        for name, ref in names.items()
        for prompt in PROMPTS
        for pooling in ("mean", "last")
    ]
    driver.run()
    assert not driver.errors
    driver.engine.check_idle()
    for name, prompt, request_id in talking:
        assert driver.tokens(request_id) == oracle.greedy(name, prompt, 16)
    for name, prompt, pooling, request_id in vectors:
        states = oracle.states(name, prompt).double()
        state = states.mean(0) if pooling == "mean" else states[-1]
        expected = (state / state.norm()).float()
        torch.testing.assert_close(driver.embedding(request_id), expected, atol=2e-4, rtol=0)
