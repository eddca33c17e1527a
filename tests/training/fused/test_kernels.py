"""Each kernel, run by Triton's interpreter, is its plain twin.

In fp32: the interpreter cuts where a device rounds to bfloat16. There, tests/gpu compares them.
"""

from __future__ import annotations

import pytest
import torch
from bitsandbytes import functional as bnb

from tests.training.test_gptq import pack, quantize
from training.fused import dropout, gate, norm, rotary
from training.fused.kernels import dropout as dropout_kernels
from training.fused.kernels import gate as gate_kernels
from training.fused.kernels import norm as norm_kernels
from training.fused.kernels import rotary as rotary_kernels
from training.fused.kernels.gptq import dequantize as dequantize_gptq
from training.fused.kernels.nf4 import dequantize
from training.gptq import GptqLinear


def assert_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("nested", [False, True])
def test_weights_are_bitsandbytes_bits(nested: bool) -> None:
    weight = torch.randn(72, 192) * 0.02
    codes, state = bnb.quantize_4bit(weight, compress_statistics=nested, quant_type="nf4")
    assert torch.equal(dequantize(codes, state), bnb.dequantize_4bit(codes, state))


@pytest.mark.parametrize("by_activation", [True, False])
def test_gptq_weights_are_those_of_the_plain_layer(by_activation: bool) -> None:
    """Groups that do not divide the inputs, and a last program that is only partly filled."""
    parts, _ = quantize(torch.randn(72, 168), 64, by_activation=by_activation)
    layer = GptqLinear(parts, bits=4, zero_offset=1)
    found = dequantize_gptq(layer, torch.float32)
    assert torch.equal(found, layer.dense())
    assert found.shape == (72, 168)


@pytest.mark.parametrize("bits", [2, 8])
def test_gptq_weights_of_other_widths(bits: int) -> None:
    codes = torch.randint(0, 2**bits, (64, 96))
    parts = {
        "qweight": pack(codes, bits).t().contiguous(),
        "qzeros": pack(torch.randint(0, 2**bits, (3, 64)), bits),
        "scales": torch.rand(3, 64).half(),
        "g_idx": (torch.arange(96) // 32).int(),
    }
    layer = GptqLinear(parts, bits=bits, zero_offset=0)
    assert torch.equal(dequantize_gptq(layer, torch.float32), layer.dense())


def test_norm() -> None:
    x, weight, gradient = torch.randn(5, 96), torch.randn(96), torch.randn(5, 96)
    normed, inverse = norm.normalise(x, weight, 1e-5)
    found, found_inverse = norm_kernels.normalise(x, weight, 1e-5)
    assert_near(found, normed)
    assert_near(found_inverse, inverse)
    wanted = norm.normalise_back(gradient, x, weight, inverse)
    assert_near(norm_kernels.normalise_back(gradient, x, weight, inverse), wanted)


def test_gate() -> None:
    one, other, gradient = (torch.randn(3, 700) for _ in range(3))
    assert_near(gate_kernels.multiply(one, other), gate.multiply(one, other))
    wanted = gate.multiply_back(gradient, one, other)
    for found, each in zip(gate_kernels.multiply_back(gradient, one, other), wanted, strict=True):
        assert_near(found, each)


def test_rotary() -> None:
    angles = torch.rand(7, 12).repeat(1, 2)
    cos, sin = angles.cos(), angles.sin()
    x = torch.randn(7, 3, 24)
    assert_near(rotary_kernels.turn(x, cos, sin), rotary.turn(x, cos, sin))


def test_dropout_is_a_function_of_the_seed_and_keeps_what_it_should() -> None:
    x = torch.ones(100, 100)
    once, again, other = (dropout_kernels.dropped(x, 0.25, seed) for seed in (3, 3, 4))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert once.unique().tolist() == pytest.approx([0, 1 / 0.75])
    # 10,000 draws: four standard deviations are 0.017.
    assert (once == 0).float().mean().item() == pytest.approx(0.25, abs=0.018)
    total = torch.randn(100, 100)
    added = dropout_kernels.add_dropped(total.clone(), x, 0.25, 3)
    torch.testing.assert_close(added, total + once)


def test_plain_dropout_adds_what_it_dropped() -> None:
    x, total = torch.randn(50, 60), torch.randn(50, 60)
    seed = dropout.draw_seed()
    once = dropout.dropped(x, 0.4, seed)
    assert (once == 0).float().mean().item() == pytest.approx(0.4, abs=0.04)
    torch.testing.assert_close(once[once != 0], x[once != 0] / 0.6)
    added = dropout.add_dropped(total.clone(), x, 0.4, seed)
    torch.testing.assert_close(added, total + once)
