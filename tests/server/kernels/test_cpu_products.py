"""Compiled products: exact NF4 weights, fp32 sums, and rows that are bitwise their own."""

from __future__ import annotations

import bitsandbytes.functional as bnb
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from server.kernels.cpu.support import is_supported
from server.kernels.linear import NF4_BLOCK, Nf4Weight

if not is_supported():
    pytest.skip("needs AVX-512 with bf16", allow_module_level=True)

from server.kernels.cpu.product import OUTS, decode_outs, multiply


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantized(out: int, into: int, *, scale: float = 1.0) -> Nf4Weight:
    dense = scale * random(out, into, seed=out + into)
    codes, state = bnb.quantize_4bit(
        dense, blocksize=NF4_BLOCK, compress_statistics=True, quant_type="nf4"
    )
    absmax = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    return Nf4Weight(codes.reshape(-1), absmax.float(), out, into)


def multiplied(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    sums = torch.empty(len(x), OUTS)
    multiply(x.data_ptr(), len(x), weights.data_ptr(), x.shape[1], sums.data_ptr())
    return sums


@pytest.mark.parametrize(("out", "into"), [(16, 64), (64, 576), (32, 1536), (48, 4096)])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 3e4])
def test_decoded_weights_are_those_that_bitsandbytes_gives_back(
    out: int, into: int, scale: float
) -> None:
    weight = quantized(out, into, scale=scale)
    expected = weight.dequantize(torch.bfloat16)
    decoded = torch.empty(OUTS, into, dtype=torch.bfloat16)
    for first in range(0, out, OUTS):
        codes, scales = weight.codes.data_ptr(), weight.absmax.data_ptr()
        decode_outs(codes, scales, first, into, decoded.data_ptr())
        assert torch.equal(decoded, expected[first : first + OUTS])


@settings(deadline=None)
@given(rows=st.integers(1, 40), into=st.sampled_from([32, 64, 576, 1536]), seed=st.integers(0, 99))
def test_products_are_what_the_definition_says(rows: int, into: int, seed: int) -> None:
    x, weights = random(rows, into, seed=seed).bfloat16(), random(OUTS, into, seed=-seed).bfloat16()
    expected = x.double() @ weights.double().T
    torch.testing.assert_close(multiplied(x, weights).double(), expected, rtol=1e-5, atol=1e-4)


@settings(deadline=None)
@given(before=st.integers(0, 12), after=st.integers(0, 12), seed=st.integers(0, 99))
def test_a_row_is_bitwise_its_own_in_any_company(before: int, after: int, seed: int) -> None:
    x = random(before + 1 + after, 576, seed=seed).bfloat16()
    weights = random(OUTS, 576, seed=-seed).bfloat16()
    among = multiplied(x, weights)[before]
    assert torch.equal(among, multiplied(x[before : before + 1].clone(), weights)[0])


def test_numbers_of_one_row_never_reach_another() -> None:
    x, weights = random(7, 64, seed=1).bfloat16(), random(OUTS, 64, seed=2).bfloat16()
    expected = multiplied(x, weights)
    x[3] = torch.inf
    found = multiplied(x, weights)
    others = [0, 1, 2, 4, 5, 6]
    assert torch.equal(found[others], expected[others])
    assert not found[3].isfinite().any()
