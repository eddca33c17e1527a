"""The Triton fallback against its twin.

In fp32 under the interpreter, which rounds bf16 towards zero; in bf16 on a device.
"""

from __future__ import annotations

import bitsandbytes.functional as bnb
import pytest
import torch

from server.kernels.cuda.nested import NestedNf4Weight, merge_nested, multiply

pytest.importorskip("triton", reason="triton is not installed")

from server.kernels.triton.nf4 import TritonNf4Linear

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}[DEVICE]
BOUND = {"cpu": 1e-6, "cuda": 2.0e-3}[DEVICE]  # rounding the result to bf16 makes up to 1.95e-3


def quantized(out: int, into: int) -> NestedNf4Weight:
    dense = torch.randn(out, into, device=DEVICE).bfloat16()
    return NestedNf4Weight.of(
        *bnb.quantize_4bit(dense, blocksize=64, compress_statistics=True, quant_type="nf4")
    )


def rows(tokens: int, into: int) -> torch.Tensor:
    return torch.randn(tokens, into, device=DEVICE).to(DTYPE)


@pytest.mark.parametrize(
    ("parts", "into", "tokens"),
    [((8,), 64, 1), ((64, 72), 192, 3), ((40, 8, 8), 320, 17), ((136,), 128, 70), ((72,), 64, 300)],
)
def test_products_are_the_twins(parts: tuple[int, ...], into: int, tokens: int) -> None:
    weight = merge_nested([quantized(out, into) for out in parts])
    x = rows(tokens, into)
    out = torch.full((tokens, weight.out_features), torch.nan, device=DEVICE, dtype=DTYPE)
    TritonNf4Linear.of(weight).into(x, out)
    exact = x.double() @ weight.dequantize(DTYPE).double().T
    assert float((out.double() - exact).norm() / exact.norm()) < BOUND
    twin = multiply(x, weight).double()
    assert float((out.double() - twin).norm() / twin.norm()) < 2 * BOUND


def test_dequantized_values_are_the_twins() -> None:
    weight = merge_nested([quantized(out, 192) for out in (72, 8)])
    assert torch.equal(TritonNf4Linear.of(weight).dequantize(DTYPE), weight.dequantize(DTYPE))


def test_a_rows_bits_do_not_depend_on_its_company() -> None:
    """As far as each program's own order of sums goes; numpy's products are the interpreter's."""
    linear = TritonNf4Linear.of(quantized(72, 320))
    x = rows(40, 320)
    among = linear(x)
    for start, count in ((0, 1), (5, 9), (20, 17)):
        difference = linear(x[start : start + count]) - among[start : start + count]
        assert float(difference.abs().max()) <= (0.0 if DEVICE == "cuda" else 1e-4)


def test_it_holds_four_bits_a_weight() -> None:
    linear = TritonNf4Linear.of(quantized(128, 256))
    assert linear.out_features == 128
    assert linear.nbytes < 0.54 * 128 * 256
