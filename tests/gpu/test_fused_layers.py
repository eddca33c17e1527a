"""The fused layers' kernels on the device: their twins' results in bfloat16, bitsandbytes' bits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from bitsandbytes import functional as bnb  # noqa: E402

from training.fused import gate, norm, rotary  # noqa: E402
from training.fused.attention import Rows, attend  # noqa: E402
from training.fused.dropout import add_dropped, dropped  # noqa: E402
from training.fused.kernels.gptq import dequantize as dequantize_gptq  # noqa: E402
from training.fused.kernels.nf4 import dequantize  # noqa: E402
from training.gptq import GptqLinear  # noqa: E402

pytestmark = pytest.mark.gpu


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda").bfloat16()


def assert_near(found: torch.Tensor, of_cpu: torch.Tensor) -> None:
    """Equal but for two roundings to bfloat16."""
    torch.testing.assert_close(found.cpu(), of_cpu, rtol=2**-7, atol=2**-7)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("nested", [False, True])
def test_weights_are_bitsandbytes_bits(nested: bool) -> None:
    codes, state = bnb.quantize_4bit(
        drawn(1024, 14336) * 0.02, compress_statistics=nested, quant_type="nf4"
    )
    assert torch.equal(dequantize(codes, state), bnb.dequantize_4bit(codes, state))


def test_gptq_weights_are_the_plain_layers_bits() -> None:
    numbers = {"dtype": torch.int32, "device": "cuda"}
    parts = {
        "qweight": torch.randint(-(2**31), 2**31, (512, 1024), **numbers),
        "qzeros": torch.randint(-(2**31), 2**31, (32, 128), **numbers),
        "scales": torch.rand(32, 1024, device="cuda").half() / 100,
        "g_idx": (torch.randperm(4096, device="cuda") // 128).int(),
    }
    layer = GptqLinear(parts, bits=4, zero_offset=1)
    assert torch.equal(dequantize_gptq(layer, torch.bfloat16), layer.dense().bfloat16())


def test_norm_gate_and_rotary_are_their_twins() -> None:
    x, weight, gradient = drawn(300, 4096), 1 + drawn(4096) / 10, drawn(300, 4096)
    normed, inverse = norm.normalise(x, weight, 1e-5)
    wanted, wanted_inverse = norm.normalise(x.cpu(), weight.cpu(), 1e-5)
    assert_near(normed, wanted)
    found = norm.normalise_back(gradient, x, weight, inverse)
    assert_near(found, norm.normalise_back(gradient.cpu(), x.cpu(), weight.cpu(), wanted_inverse))
    one, other = drawn(300, 14336), drawn(300, 14336)
    assert_near(gate.multiply(one, other), gate.multiply(one.cpu(), other.cpu()))
    whole = drawn(300, 14336)
    of_cpu = gate.multiply_back(whole.cpu(), one.cpu(), other.cpu())
    for found, each in zip(gate.multiply_back(whole, one, other), of_cpu, strict=True):
        assert_near(found, each)
    angles = torch.rand(300, 64, device="cuda").repeat(1, 2)
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    heads = drawn(300, 32, 128)
    assert_near(rotary.turn(heads, cos, sin), rotary.turn(heads.cpu(), cos.cpu(), sin.cpu()))


def test_dropout_adds_what_it_dropped() -> None:
    x, total = drawn(1000, 4096), torch.zeros(1000, 4096, device="cuda", dtype=torch.bfloat16)
    once = dropped(x, 0.1, 5)
    assert (once == 0).float().mean().item() == pytest.approx(0.1, abs=0.001)
    assert torch.equal(add_dropped(total, x, 0.1, 5), once)


@pytest.mark.parametrize("window", [None, 40])
def test_attention_and_its_gradients_are_those_of_a_mask(window: int | None) -> None:
    bounds = torch.tensor([0, 70, 71, 200], dtype=torch.int32, device="cuda")
    parts = [drawn(200, heads, 128).requires_grad_() for heads in (32, 8, 8)]
    copies = [part.detach().float().cpu().requires_grad_() for part in parts]
    found = attend(*parts, Rows(bounds, 129), scale=0.09, window=window)
    wanted = attend(*copies, Rows(bounds.cpu(), 129), scale=0.09, window=window)
    torch.testing.assert_close(found.float().cpu(), wanted, rtol=2e-2, atol=2e-2)
    back = drawn(200, 32, 128)
    of_found = torch.autograd.grad(found, parts, back)
    of_wanted = torch.autograd.grad(wanted, copies, back.float().cpu())
    for one, other in zip(of_found, of_wanted, strict=True):
        distance = (one.float().cpu() - other).norm() / other.norm()
        assert distance < 0.02
