"""NF4 weights multiply as the values that bitsandbytes made, merged or not, whatever the shape."""

from __future__ import annotations

import bitsandbytes.functional as bnb
import pytest
import torch
from torch.nn.functional import linear

from server.kernels.linear import NF4_BLOCK, DenseLinear, Nf4Linear, Nf4Weight, merge

SHAPES = [(64, 64), (128, 64), (32, 96), (96, 160), (2, 32), (1, 64)]
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def quantized(out: int, into: int, seed: int = 0) -> tuple[Nf4Weight, torch.Tensor, object]:
    """An NF4 weight, its codes and bitsandbytes' own state for them."""
    dense = torch.randn(out, into, generator=torch.Generator().manual_seed(seed))
    codes, state = bnb.quantize_4bit(
        dense, blocksize=NF4_BLOCK, compress_statistics=True, quant_type="nf4"
    )
    absmax = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    return Nf4Weight(codes.reshape(-1), absmax.float(), out, into), codes, state


def by_definition(weight: Nf4Weight, dtype: torch.dtype) -> torch.Tensor:
    """Each code's value times its block's scale; the high half of a byte comes first."""
    table = bnb.get_4bit_type("nf4", device="cpu")
    codes = torch.stack((weight.codes >> 4, weight.codes & 15), dim=-1).flatten().long()
    values = table[codes] * weight.absmax.repeat_interleave(NF4_BLOCK)
    return values.to(dtype).view(weight.out_features, weight.in_features)


@dtypes
@pytest.mark.parametrize(("out", "into"), SHAPES)
def test_dequantized_values_are_those_of_the_definition(
    out: int, into: int, dtype: torch.dtype
) -> None:
    weight, _, _ = quantized(out, into)
    assert torch.equal(weight.dequantize(dtype), by_definition(weight, dtype))


@pytest.mark.parametrize(("out", "into"), [shape for shape in SHAPES if shape[1] % 64 == 0])
def test_dequantized_values_are_those_of_bitsandbytes(out: int, into: int) -> None:
    """Where its rows are whole blocks; elsewhere 0.50.2 takes the wrong scales on CPU."""
    weight, codes, state = quantized(out, into)
    assert torch.equal(weight.dequantize(torch.float32), bnb.dequantize_4bit(codes, state))


@dtypes
@pytest.mark.parametrize("into", [64, 96])
def test_merged_weights_are_the_parts_below_one_another(into: int, dtype: torch.dtype) -> None:
    parts = [quantized(out, into, seed=out)[0] for out in (64, 32, 32)]
    merged = merge(parts)
    assert torch.equal(
        merged.dequantize(dtype), torch.cat([part.dequantize(dtype) for part in parts])
    )
    assert (merged.out_features, merged.in_features) == (128, into)
    assert merged.nbytes == sum(part.nbytes for part in parts)


def test_a_block_across_two_weights_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="whole blocks"):
        merge([quantized(64, 64)[0], quantized(1, 32)[0]])


@dtypes
def test_an_nf4_layer_and_its_dense_copy_multiply_alike(dtype: torch.dtype) -> None:
    weight, _, _ = quantized(128, 96)
    x = torch.randn(5, 96, generator=torch.Generator().manual_seed(1)).to(dtype)
    layer, copy = Nf4Linear(weight), DenseLinear(weight.dequantize(dtype))
    assert torch.equal(layer(x), copy(x))
    assert torch.equal(layer(x), linear(x, by_definition(weight, dtype)))
    assert layer.out_features == copy.out_features == 128


@pytest.mark.parametrize("into", [64, 576, 1536])
def test_a_row_is_bitwise_its_own_in_any_company(into: int) -> None:
    layer = Nf4Linear(quantized(576, into)[0])
    copy = DenseLinear(layer.weight.dequantize(torch.bfloat16))
    x = torch.randn(200, into, generator=torch.Generator().manual_seed(1)).bfloat16()
    among = copy(x)
    for row in range(0, 200, 2):
        assert torch.equal(copy(x[row : row + 1]), among[row : row + 1])
        assert torch.equal(copy(x[row : row + 2]), among[row : row + 2])
    assert torch.equal(layer(x[:1]), among[:1])
    assert layer(x[:0]).shape == (0, 576)  # a step may have nothing to sample


def test_a_weight_stays_at_four_bits_and_its_scales() -> None:
    weight, _, _ = quantized(128, 64)
    assert Nf4Linear(weight).nbytes == 128 * 64 // 2 + 4 * 128 * 64 // NF4_BLOCK
