"""The compiled look for the largest logit finds what its twin finds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from server.kernels import sampling
from server.kernels.cpu.support import is_supported

if not is_supported():
    pytest.skip("needs AVX-512 with bf16", allow_module_level=True)

from server.kernels.cpu.sampling import largest


@settings(deadline=None)
@given(
    rows=st.integers(0, 4),
    vocab=st.sampled_from([1, 15, 320, 512, 513, 1700]),
    levels=st.sampled_from([2, 50, 10_000]),
    seed=st.integers(0, 99),
)
def test_it_finds_the_first_of_the_largest(rows: int, vocab: int, levels: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    logits = (torch.randint(levels, (rows, vocab), generator=source) - levels).bfloat16()
    values, ids = largest(logits)
    expected_values, expected_ids = sampling.largest(logits)
    assert torch.equal(values, expected_values)
    assert torch.equal(ids, expected_ids)


@pytest.mark.parametrize("place", [0, 7, 511, 512, 1030, 1699])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_finite_comes_out_on_top(number: float, place: int) -> None:
    logits = torch.randn(2, 1700, generator=torch.Generator().manual_seed(1)).bfloat16()
    logits[1, place] = number
    values, ids = largest(logits)
    assert values[0] == logits[0].max()
    assert not values[1].isfinite()
    assert ids[1] == place
