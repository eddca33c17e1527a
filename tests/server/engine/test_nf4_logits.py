"""On the embedded 4-bit Mistral the engine's logits are the oracle's.

With fp32 compute they agree to TOLERANCE. With bf16 compute both round, each in its own way; then,
over several prompts together, the engine is as near to the fp32 result as transformers + peft +
bitsandbytes is. A single prompt says little: on one, either side may be the nearer by a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from server.engine.engine import Engine
from server.engine.request import GenerationDelta
from tests.support.oracle import Oracle
from tests.support.serving import Driver, make_engine
from tests.support.tiny import TinyAdapter

PROMPTS = (
    "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is",
    "def add(a, b):\n    return a + b\n\ndef multiply(a, b):\n    return",
    "Once upon a time there was a fox who lived at the edge of a large forest. Every morning",
    "SELECT name, price FROM products WHERE price > 10 ORDER BY",
    "Water boils at 100 degrees and freezes at",
    "Dear Sir or Madam, I am writing to complain about the service that I received",
)
TOLERANCE = 2e-3  # nats, fp32 compute
NO_WORSE = 1.15  # times the bf16 error of the oracle, over all prompts
PROBABLE = -8.0  # log-probability below which nobody samples


@pytest.fixture(scope="module")
def adapters(embedded_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    style = TinyAdapter("style", rank=8, alpha=16)
    return {"style": style.write(embedded_base, tmp_path_factory.mktemp("style"), std=0.02)}


@pytest.fixture(scope="module")
def oracles(embedded_base: Path, adapters: dict[str, Path]) -> dict[torch.dtype, Oracle]:
    return {
        dtype: Oracle(embedded_base, adapters, dtype=dtype, nf4=True)
        for dtype in (torch.float32, torch.bfloat16)
    }


@pytest.fixture(scope="module", params=["nf4", "nf4-shadow"])
def engines(
    request: pytest.FixtureRequest, embedded_base: Path, adapters: dict[str, Path]
) -> dict[torch.dtype, Engine]:
    """Made once: quantizing takes longer than all that is asked."""
    settings = {"weights": request.param, "kv_memory": 64 << 20, "chunk": 16}
    return {
        dtype: make_engine(embedded_base, adapters, dtype=dtype, **settings)
        for dtype in (torch.float32, torch.bfloat16)
    }


def errors(deltas: Sequence[GenerationDelta], reference: torch.Tensor) -> list[float]:
    """Differences of the reported log-probabilities from rows of `reference` [tokens, vocab]."""
    return [
        abs(value - float(row[token_id]))
        for delta, row in zip(deltas, reference, strict=True)
        for token_id, _, value in delta.logprobs[0].top
        if value > PROBABLE
    ]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("name", [None, "style"])
def test_logits_are_the_oracles(
    name: str | None, engines: dict[torch.dtype, Engine], oracles: dict[torch.dtype, Oracle]
) -> None:
    found: dict[torch.dtype, list[float]] = {dtype: [] for dtype in engines}
    oracle_errors: list[float] = []
    prompts = [oracles[torch.float32].encode(text) for text in PROMPTS]
    for dtype, engine in engines.items():
        driver = Driver(engine)
        asked = [driver.submit(each, name, max_tokens=10, logprobs=20) for each in prompts]
        driver.run()
        for prompt, request_id in zip(prompts, asked, strict=True):
            said = prompt + driver.tokens(request_id)
            rows = slice(len(prompt) - 1, -1)
            exact = oracles[torch.float32].logits(name, said).log_softmax(-1)[rows]
            found[dtype] += errors(driver.deltas[request_id], exact)
            if dtype == torch.bfloat16:
                rounded = oracles[dtype].logits(name, said).log_softmax(-1)[rows]
                oracle_errors += (rounded - exact)[exact > PROBABLE].abs().tolist()

    assert len(found[torch.float32]) > 60 * len(PROMPTS)
    assert max(found[torch.float32]) < TOLERANCE
    assert mean(found[torch.bfloat16]) < NO_WORSE * mean(oracle_errors)
