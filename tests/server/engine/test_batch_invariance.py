"""With `--gemm batch-invariant`, a sequence's logits are its own, bit for bit.

Here with the plain-torch twins of the device's kernels; tests/gpu/test_invariance.py holds the
kernels themselves to it.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from server.engine.row_tables import RowTables
from server.errors import StartupError
from server.kernels.triton.chunks import PromptChunks
from tests.support.serving import Driver, make_engine
from tests.support.witness import SEEN, Witness

NAMES = (None, "a", "b", "c", "d")
TOLD = 12  # tokens that the sequence under test says


def prompt(number: int, length: int) -> list[int]:
    source = random.Random(number)
    return [source.randrange(256) for _ in range(length)]


class Told:
    """An engine in the batch-invariant mode, and what one sequence is told by it."""

    def __init__(self, base: Path, adapters: dict[str, Path], **settings: Any) -> None:
        mode = {"fused": True, "gemm": "batch-invariant", "dtype": torch.bfloat16}
        self.engine = make_engine(base, adapters, weights="nf4", **{**mode, **settings})
        self._witness = Witness(self.engine)
        self.driver = Driver(self.engine)

    def logits(self, tokens: list[int], company: int = 0) -> torch.Tensor:
        """Of adapter "a" after `tokens`, so many other sequences running beside it."""
        for other in range(company):
            self.driver.submit(prompt(other + 1, 3 + 5 * other), NAMES[other % 5], max_tokens=16)
        for _ in range(company):
            self.driver.step()
        self.request_id = self.driver.submit(tokens, "a", max_tokens=TOLD, **SEEN)
        self.driver.run()
        assert not self.driver.errors
        return self._witness.logits(self.request_id)


@pytest.fixture(scope="module")
def alone(tiny_base: Path, tiny_adapters: dict[str, Path]) -> torch.Tensor:
    return Told(tiny_base, tiny_adapters).logits(prompt(0, 50))


@pytest.mark.parametrize("company", [1, 3, 9])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_company_and_chunks_change_no_bit(
    company: int, chunk: int, alone: torch.Tensor, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    told = Told(tiny_base, tiny_adapters, chunk=chunk)
    assert torch.equal(told.logits(prompt(0, 50), company), alone)


def test_a_prefix_computed_by_others_changes_no_bit(
    alone: torch.Tensor, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    told = Told(tiny_base, tiny_adapters)
    told.logits(prompt(0, 50))
    assert torch.equal(told.logits(prompt(0, 50)), alone)
    assert told.engine.stats().num_prefix_hits >= 48


def test_a_prefix_that_was_said_is_as_good_as_one_that_was_given(
    tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    """Blocks that decoding filled are taken up by a prompt that goes on from there."""
    told = Told(tiny_base, tiny_adapters, block_size=4)
    first = prompt(0, 50)
    told.logits(first)
    longer = first + told.driver.tokens(told.request_id) + prompt(1, 5)
    hits = told.engine.stats().num_prefix_hits
    again = told.logits(longer)
    assert told.engine.stats().num_prefix_hits - hits > 50
    assert torch.equal(again, Told(tiny_base, tiny_adapters, block_size=4).logits(longer))


def test_what_is_computed_anew_has_the_same_bits(
    alone: torch.Tensor, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    told = Told(tiny_base, tiny_adapters, block_size=4, kv_memory=60 << 10)
    assert torch.equal(told.logits(prompt(0, 50), 8), alone)
    assert told.engine.stats().num_preemptions > 0


def test_row_tables_give_each_row_its_own_context() -> None:
    chunks = PromptChunks(
        starts=torch.tensor([0, 3, 4, 4, 4], dtype=torch.int32),
        context_lengths=torch.tensor([9, 6, 0, 0], dtype=torch.int32),
        block_tables=torch.arange(8, dtype=torch.int32).view(4, 2),
        longest=3,
    )
    tables = RowTables.of(chunks, 6)
    assert tables.context_lengths.tolist() == [7, 8, 9, 6, 0, 0]
    assert tables.block_tables[:4].tolist() == [[0, 1]] * 3 + [[2, 3]]


def test_a_copy_of_the_base_sums_otherwise_and_is_refused(tiny_base: Path) -> None:
    with pytest.raises(StartupError, match="batch-invariant"):
        make_engine(tiny_base, fused=True, gemm="batch-invariant", weights="nf4-shadow")
