"""The NF4 GEMM on a CUDA device: bitsandbytes' values, every output written, no bit by chance."""

from __future__ import annotations

import random
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

import bitsandbytes.functional as bnb  # noqa: E402

from server.kernels.cuda.gemm import Nf4Gemm  # noqa: E402
from server.kernels.cuda.nested import NestedNf4Weight, merge_nested, multiply  # noqa: E402
from server.kernels.cuda.packing import pack  # noqa: E402

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda:0")
EXACT_BOUND = 2.0e-3  # relative error; rounding the result to bf16 alone makes 1.7e-3
FAST_BOUND = 4.0e-3
SHAPES_7B = [((4096, 1024, 1024), 4096), ((4096,), 4096), ((14336, 14336), 4096), ((4096,), 14336)]
TOKENS = (1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 128, 129, 200, 300, 400)


def quantized(out: int, into: int) -> tuple[NestedNf4Weight, torch.Tensor]:
    dense = torch.randn(out, into, device=DEVICE).mul_(0.02).bfloat16()
    codes, state = bnb.quantize_4bit(
        dense, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    return NestedNf4Weight.of(codes, state), bnb.dequantize_4bit(codes, state)


def merged(parts: tuple[int, ...], into: int) -> tuple[NestedNf4Weight, torch.Tensor]:
    made = [quantized(out, into) for out in parts]
    return merge_nested([weight for weight, _ in made]), torch.cat([dense for _, dense in made])


def product(linear: Any, x: torch.Tensor) -> torch.Tensor:
    """Into poison, so that an output left unwritten is seen."""
    out = torch.full((len(x), linear.out_features), torch.nan, device=DEVICE, dtype=x.dtype)
    linear.into(x, out)
    return out


def relative_error(out: torch.Tensor, expected: torch.Tensor) -> float:
    return float((out.double() - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def gemms() -> dict[str, Nf4Gemm]:
    made = {mode: Nf4Gemm(DEVICE, mode=mode) for mode in ("exact", "fast", "batch-invariant")}
    for gemm in made.values():
        gemm.prepare()
    return made


def random_shapes(count: int) -> list[tuple[tuple[int, ...], int]]:
    source = random.Random(0)
    widths = [
        tuple(8 * source.randint(1, 200) for _ in range(source.choice((1, 2, 3))))
        for _ in range(count)
    ]
    return [(parts, 64 * source.randint(1, 70)) for parts in widths]


@pytest.mark.parametrize("mode", ["exact", "fast", "batch-invariant"])
@pytest.mark.parametrize(("parts", "into"), SHAPES_7B + random_shapes(12))
def test_products_are_those_of_bitsandbytes_values(
    gemms: dict[str, Nf4Gemm], mode: str, parts: tuple[int, ...], into: int
) -> None:
    weight, dense = merged(parts, into)
    linear = gemms[mode].linear(weight)
    dense = dense.double()
    for tokens in TOKENS:
        x = torch.randn(tokens, into, device=DEVICE).bfloat16()
        error = relative_error(product(linear, x), x.double() @ dense.T)
        assert error < (FAST_BOUND if mode == "fast" else EXACT_BOUND), tokens


def test_one_hot_rows_read_the_exact_weights(gemms: dict[str, Nf4Gemm]) -> None:
    """Each column of the weight, bit for bit: what the error bound would forgive shows here."""
    weight, dense = merged((256, 72), 192)
    identity = torch.eye(192, device=DEVICE, dtype=torch.bfloat16)
    for mode in ("exact", "batch-invariant"):
        linear = gemms[mode].linear(weight)
        for step in (1, 8, 16, 24, 64, 96, 192):
            rows = [product(linear, identity[i : i + step]) for i in range(0, 192, step)]
            assert torch.equal(torch.cat(rows).T, dense), (mode, step)


def test_dequantized_rows_are_bitwise_those_of_bitsandbytes(gemms: dict[str, Nf4Gemm]) -> None:
    weight, dense = merged((512, 136), 320)
    packed = pack(weight)
    rows = torch.full((264, 320), torch.nan, device=DEVICE, dtype=torch.bfloat16)
    gemms["exact"]._kernels.dequantize(packed, 384, rows)
    assert torch.equal(rows, dense[384:])
    assert torch.equal(weight.dequantize(), dense)


def test_the_same_product_has_the_same_bits(gemms: dict[str, Nf4Gemm]) -> None:
    linear = gemms["exact"].linear(merged((4096, 1024, 1024), 4096)[0])
    for tokens in (1, 16, 32, 64, 128):
        x = torch.randn(tokens, 4096, device=DEVICE).bfloat16()
        first = product(linear, x)
        assert all(torch.equal(product(linear, x), first) for _ in range(30))


@pytest.mark.parametrize(("parts", "into"), [((4096,), 4096), ((4096,), 14336), ((520,), 192)])
def test_a_rows_bits_do_not_depend_on_its_company(
    gemms: dict[str, Nf4Gemm], parts: tuple[int, ...], into: int
) -> None:
    linear = gemms["batch-invariant"].linear(merged(parts, into)[0])
    x = torch.randn(300, into, device=DEVICE).bfloat16()
    among = product(linear, x)
    for start, tokens in ((0, 1), (3, 8), (100, 9), (40, 17), (7, 64), (200, 100)):
        alone = product(linear, x[start : start + tokens].clone())
        assert torch.equal(alone, among[start : start + tokens]), tokens


def test_kernels_run_inside_a_graph(gemms: dict[str, Nf4Gemm]) -> None:
    """A chain of dependent products, replayed on new inputs, gives what the calls give."""
    weight, _ = quantized(1024, 1024)
    linear = gemms["exact"].linear(weight)
    for tokens in (1, 24, 64):
        x = torch.randn(tokens, 1024, device=DEVICE).bfloat16()
        linear(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = x
            for _ in range(8):
                out = linear(out)
        for _ in range(5):
            x.copy_(torch.randn(tokens, 1024, device=DEVICE))
            graph.replay()
            expected = x
            for _ in range(8):
                expected = linear(expected)
            assert torch.equal(out, expected)


def test_the_twin_agrees(gemms: dict[str, Nf4Gemm]) -> None:
    weight, _ = merged((136, 64), 448)
    x = torch.randn(40, 448, device=DEVICE).bfloat16()
    ours = product(gemms["exact"].linear(weight), x)
    assert relative_error(ours, multiply(x, weight).double()) < 3e-3


def test_no_rows_give_no_rows(gemms: dict[str, Nf4Gemm]) -> None:
    linear = gemms["exact"].linear(quantized(64, 64)[0])
    assert linear(torch.empty(0, 64, device=DEVICE, dtype=torch.bfloat16)).shape == (0, 64)


@pytest.mark.parametrize("tokens", [1, 16, 64, 100, 300])
def test_the_triton_fallback_gives_the_same_products(tokens: int) -> None:
    from server.kernels.triton.nf4 import TritonNf4Linear

    weight, dense = merged((520, 136), 1344)
    linear = TritonNf4Linear.of(weight)
    assert torch.equal(linear.dequantize(torch.bfloat16), dense)
    x = torch.randn(tokens, 1344, device=DEVICE).bfloat16()
    assert relative_error(product(linear, x), x.double() @ dense.double().T) < EXACT_BOUND
