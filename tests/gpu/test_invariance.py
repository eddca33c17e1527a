"""The batch-invariant mode on the device: a sequence's logits are its own, bit for bit.

And in the default mode, by how much company changes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from server.bases import Base  # noqa: E402
from server.engine.engine import Engine  # noqa: E402
from tests.gpu.seven_b import NAMES, prompt, running, write_parts  # noqa: E402
from tests.support.distance import Distance, num_comparable  # noqa: E402
from tests.support.serving import Driver  # noqa: E402
from tests.support.witness import SEEN, Witness  # noqa: E402

pytestmark = pytest.mark.gpu

LAYERS = 4
TOLD = 8
COMPANY = (1, 2, 5, 11, 20, 40, 63)  # other sequences; with each a step is of another size
BOUND = 0.2  # nats by which company may change a log-probability in the default mode
Parts = tuple[Base, dict[str, Path]]


@pytest.fixture(scope="module")
def parts(ram_disk: Path) -> Parts:
    return write_parts(ram_disk / "parts", LAYERS)


class Told:
    """An engine, and what one sequence of adapter "r16" is told by it."""

    def __init__(self, engine: Engine) -> None:
        self._witness = Witness(engine)
        self.engine, self.driver = engine, Driver(engine)

    def logits(
        self, tokens: list[int], company: int = 0, *, theirs: int = 3 * TOLD
    ) -> torch.Tensor:
        """After `tokens`, so many others saying `theirs` tokens beside it."""
        for other in range(company):
            length, name = 9 + 3 * other, NAMES[other % len(NAMES)]
            self.driver.submit(prompt(other + 1, length), name, max_tokens=theirs)
        for _ in range(2):
            self.driver.step()
        self.request_id = self.driver.submit(tokens, "r16", max_tokens=TOLD, **SEEN)
        self.driver.run()
        assert not self.driver.errors
        self.engine.check_idle()
        return self._witness.logits(self.request_id)


def invariant(parts: Parts, **settings: Any) -> Any:
    chosen = {"gemm": "batch-invariant", "max_batch": 64, **settings}
    return running(*parts, **chosen)


@pytest.fixture(scope="module")
def alone(parts: Parts) -> torch.Tensor:
    with invariant(parts) as engine:
        return Told(engine).logits(prompt(0, 90))


def test_company_changes_no_bit(alone: torch.Tensor, parts: Parts) -> None:
    with invariant(parts, prefix_cache=False) as engine:
        told = Told(engine)
        for company in COMPANY:
            assert torch.equal(told.logits(prompt(0, 90), company), alone), company


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_change_no_bit(chunk: int, alone: torch.Tensor, parts: Parts) -> None:
    with invariant(parts, max_batch=8, chunk=chunk) as engine:
        assert torch.equal(Told(engine).logits(prompt(0, 90), 3), alone)


def test_prefixes_change_no_bit(alone: torch.Tensor, parts: Parts) -> None:
    """Given by another prompt, or said by a sequence: blocks are taken up either way."""
    with invariant(parts, max_batch=8, block_size=16) as engine:
        told = Told(engine)
        assert torch.equal(told.logits(prompt(0, 90)), alone)
        assert torch.equal(told.logits(prompt(0, 90)), alone)
        longer = prompt(0, 90) + told.driver.tokens(told.request_id) + prompt(1, 5)
        hits = engine.stats().num_prefix_hits
        again = told.logits(longer)
        assert engine.stats().num_prefix_hits - hits > 90
    with invariant(parts, max_batch=8, block_size=16) as engine:
        assert torch.equal(Told(engine).logits(longer), again)


def test_preemption_changes_no_bit(alone: torch.Tensor, parts: Parts) -> None:
    memory = 13 * 32 * parts[0].config.kv_bytes_per_token(torch.bfloat16)
    with invariant(parts, max_batch=16, kv_memory=memory, prefix_cache=False) as engine:
        told = Told(engine)
        told.logits(prompt(0, 90), 4)  # now every adapter is there, and all begin together
        assert torch.equal(told.logits(prompt(0, 90), 4, theirs=80), alone)
        assert engine.stats().num_preemptions > 0


def test_draws_are_the_same_in_any_company(parts: Parts) -> None:
    params = {"temperature": 1.0, "top_p": 0.95, "seed": 11, "max_tokens": 24}
    said = []
    with invariant(parts, prefix_cache=False) as engine:
        for company in (0, 3, 30):
            driver = Driver(engine)
            for other in range(company):
                driver.submit(prompt(other + 1, 20), NAMES[other % 5], max_tokens=40)
            driver.step()
            request_id = driver.submit(prompt(0, 60), "r64", **params)
            driver.run()
            said.append(driver.tokens(request_id))
    assert said[0] == said[1] == said[2]


def test_in_the_default_mode_company_changes_little(parts: Parts) -> None:
    worst = mean = 0.0
    with running(*parts, max_batch=64, prefix_cache=False) as engine:
        told = Told(engine)
        before = told.logits(prompt(0, 90))
        for company in COMPANY:
            now = told.logits(prompt(0, 90), company)
            same = num_comparable(now, before)
            apart = Distance.of([now[:same]], [before[:same]])
            worst, mean = max(worst, apart.worst), max(mean, apart.mean)
    print(f"\nexact, {LAYERS} layers: company changes log-probabilities by {worst:.4f} at most, "
          f"{mean:.5f} on average")  # fmt: skip
    assert worst < BOUND
