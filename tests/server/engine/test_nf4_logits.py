"""On the embedded 4-bit Mistral the engine's logits are the oracle's.

With fp32 compute they agree to TOLERANCE. With bf16 compute both round, each in its own way; then
the engine stays about as near to the fp32 result as transformers + peft + bitsandbytes does.
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

PROMPT = "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is"
TOLERANCE = 2e-3  # nats, fp32 compute
# Times the bf16 error of the oracle, which computes LoRA in fp32: 1.0 to 1.4, by the prompt.
NO_WORSE = 1.6
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


def engine_of(base: Path, adapters: dict[str, Path], dtype: torch.dtype, weights: str) -> Engine:
    return make_engine(base, adapters, dtype=dtype, weights=weights, kv_memory=64 << 20, chunk=16)


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
@pytest.mark.parametrize("weights", ["nf4", "nf4-shadow"])
def test_logits_are_the_oracles(
    name: str | None,
    weights: str,
    embedded_base: Path,
    adapters: dict[str, Path],
    oracles: dict[torch.dtype, Oracle],
) -> None:
    prompt = oracles[torch.float32].encode(PROMPT)
    found: dict[torch.dtype, list[float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        driver = Driver(engine_of(embedded_base, adapters, dtype, weights))
        request_id = driver.submit(prompt, name, max_tokens=16, logprobs=20)
        driver.run()
        said = prompt + driver.tokens(request_id)
        exact = oracles[torch.float32].logits(name, said).log_softmax(-1)
        rows = slice(len(prompt) - 1, -1)
        found[dtype] = errors(driver.deltas[request_id], exact[rows])
    rounded = oracles[torch.bfloat16].logits(name, said).log_softmax(-1)
    probable = exact[rows] > PROBABLE
    oracle_error = (rounded[rows] - exact[rows])[probable].abs().mean()

    assert len(found[torch.float32]) > 100
    assert max(found[torch.float32]) < TOLERANCE
    assert mean(found[torch.bfloat16]) < NO_WORSE * float(oracle_error)
