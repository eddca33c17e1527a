"""NF4 weights with nested scales: the values of bitsandbytes, stacked and repacked losslessly."""

from __future__ import annotations

import bitsandbytes.functional as bnb
import pytest
import torch

from server.kernels.cuda.nested import NF4_TABLE, NestedNf4Weight, merge_nested, multiply
from server.kernels.cuda.packing import BAND, PackedNf4, pack


def quantized(out: int, into: int, seed: int = 0) -> tuple[NestedNf4Weight, torch.Tensor]:
    """A nested weight and what bitsandbytes makes of it, in bf16."""
    dense = torch.randn(out, into, generator=torch.Generator().manual_seed(seed))
    codes, state = bnb.quantize_4bit(
        dense.bfloat16(), blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    return NestedNf4Weight.of(codes, state), bnb.dequantize_4bit(codes, state)


@pytest.mark.parametrize(("out", "into"), [(8, 64), (40, 192), (256, 576), (128, 4096)])
def test_values_are_those_of_bitsandbytes(out: int, into: int) -> None:
    weight, expected = quantized(out, into)
    assert torch.equal(weight.dequantize(), expected)
    assert weight.nbytes < 0.54 * out * into + 16


def test_the_table_is_bitsandbytes_own() -> None:
    assert torch.equal(torch.tensor(NF4_TABLE), bnb.get_4bit_type("nf4", device="cpu"))


@pytest.mark.parametrize("parts", [(256, 64, 64), (8, 16), (24, 8, 8)])
@pytest.mark.parametrize("into", [64, 192, 1024])
def test_stacked_weights_keep_their_own_scales(parts: tuple[int, ...], into: int) -> None:
    """Wherever a part ends: at a group of 256 blocks, or inside one."""
    made = [quantized(out, into, seed=out) for out in parts]
    merged = merge_nested([weight for weight, _ in made])
    assert torch.equal(merged.dequantize(), torch.cat([expected for _, expected in made]))
    assert (merged.out_features, merged.in_features) == (sum(parts), into)


def test_only_nested_nf4_is_taken() -> None:
    dense = torch.randn(64, 64)
    with pytest.raises(ValueError, match="double quantization"):
        NestedNf4Weight.of(*bnb.quantize_4bit(dense, blocksize=64, quant_type="nf4"))
    codes, state = bnb.quantize_4bit(
        dense, blocksize=128, quant_type="nf4", compress_statistics=True
    )
    with pytest.raises(ValueError, match="blocks of 64"):
        NestedNf4Weight.of(codes, state)


def read_as_a_warp_does(packed: PackedNf4) -> torch.Tensor:
    """[rows, in] codes, found by where a lane's bytes belong in the product."""
    bands, blocks, _ = packed.codes.shape
    codes = torch.empty(bands * BAND, blocks * 64, dtype=torch.uint8)
    lanes = packed.codes.view(bands, blocks, 8, 32, 16)
    for slab in range(8):
        for lane in range(32):
            g, t = divmod(lane, 4)
            for at in range(16):
                rows = torch.arange(bands) * BAND + slab * 16 + g + 8 * (at // 8)
                first = torch.arange(blocks) * 64 + 8 * (at % 8) + 2 * t
                byte = lanes[:, :, slab, lane, at]
                codes[rows[:, None], first] = byte >> 4
                codes[rows[:, None], first + 1] = byte & 15
    return codes


@pytest.mark.parametrize(("out", "into"), [(128, 64), (136, 192), (384, 128)])
def test_packing_moves_every_code_to_its_lane(out: int, into: int) -> None:
    weight, _ = quantized(out, into)
    packed = pack(weight)
    expected = torch.stack((weight.codes >> 4, weight.codes & 15), -1).view(out, into)
    assert torch.equal(read_as_a_warp_does(packed)[:out], expected)
    scales = packed.scales.transpose(1, 2).reshape(-1, into // 64)[:out]
    assert torch.equal(scales.flatten(), weight.scales)
    assert packed.nbytes == packed.codes.nbytes + packed.scales.nbytes + packed.groups.nbytes


def test_rows_that_are_no_multiple_of_eight_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        pack(quantized(12, 64)[0])


def test_the_twin_multiplies_in_fp32() -> None:
    weight, dense = quantized(64, 128)
    x = torch.randn(3, 128).bfloat16()
    exact = x.double() @ dense.double().T
    assert torch.allclose(multiply(x, weight).double(), exact, rtol=2**-8, atol=1e-4)
