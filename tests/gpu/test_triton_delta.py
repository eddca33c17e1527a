"""What adapters change, added by a product's readers, on the device: twins, graphs, overlap."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from server.kernels.cuda.gemm import Nf4Gemm  # noqa: E402
from server.kernels.rope import RopeTable  # noqa: E402
from server.kernels.triton import activation, lora, norm, rope  # noqa: E402
from server.kernels.triton.delta import LoraDelta  # noqa: E402
from server.kernels.triton.tiles import DECODE_ROWS, LoraTiles  # noqa: E402
from server.kernels.triton.twins import activation as activation_twin  # noqa: E402
from server.kernels.triton.twins import lora as lora_twin  # noqa: E402
from server.kernels.triton.twins import norm as norm_twin  # noqa: E402
from server.kernels.triton.twins import rope as rope_twin  # noqa: E402
from tests.gpu.bench_nf4_gemm import random_weight  # noqa: E402
from tests.support.kernel_cases import error, make_cache, make_site, normal  # noqa: E402

pytestmark = pytest.mark.gpu
CUDA, ROWS = "cuda", 40
TOLERANCE = {torch.bfloat16: 5e-3, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
SLOTS = [None if row % 7 == 3 else row * row % 5 for row in range(ROWS)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def slots_of_rows() -> torch.Tensor:
    slots = [-1 if slot is None else slot for slot in SLOTS]
    return torch.tensor(slots, dtype=torch.int32, device=CUDA)


def make_deltas(widths: tuple[int, ...], dtype: torch.dtype) -> tuple[LoraDelta, LoraDelta]:
    """(the kernel's, the twin's) for random inputs."""
    ranks = [[rank] * len(widths) for rank in (16, 8, 64, 3)] + [[5, *[0] * (len(widths) - 1)]]
    site = make_site(ranks, 4096, widths, dtype=dtype, device=CUDA)
    tiles = LoraTiles.of(SLOTS, DECODE_ROWS, CUDA)
    x = normal(ROWS, 4096, dtype=dtype, device=CUDA)
    return (
        lora.shrink_beside(x, site, tiles, slots_of_rows()),
        lora_twin.shrink_beside(x, site, tiles, slots_of_rows()),
    )


@DTYPES
@pytest.mark.parametrize("intermediate", [14336, 1536])
def test_activation(dtype: torch.dtype, intermediate: int) -> None:
    ours, twins = make_deltas((intermediate, intermediate), dtype)
    gate_up = normal(ROWS, 2 * intermediate, dtype=dtype, device=CUDA)
    result = activation.silu_mul(gate_up, delta=ours)
    assert error(result, activation_twin.silu_mul(gate_up, delta=twins)) < TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize("hidden", [4096, 576, 5120])
def test_norm(dtype: torch.dtype, hidden: int) -> None:
    ours, twins = make_deltas((hidden,), dtype)
    residual, x = (normal(ROWS, hidden, dtype=dtype, device=CUDA) for _ in range(2))
    weight, expected_residual = normal(hidden, dtype=dtype, device=CUDA), residual.clone()
    result = norm.add_rms_norm(residual, x, weight, 1e-5, delta=ours)
    expected = norm_twin.add_rms_norm(expected_residual, x, weight, 1e-5, delta=twins)
    assert error(result, expected) < TOLERANCE[dtype]
    assert error(residual, expected_residual) < TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(32, 8, 128), (9, 3, 64), (4, 4, 80)])
def test_rotation(dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> None:
    kv_width = kv_heads * head_dim
    ours, twins = make_deltas((heads * head_dim, kv_width, kv_width), dtype)
    like = torch.empty(0, dtype=dtype, device=CUDA)
    table = RopeTable.build(head_dim=head_dim, num_positions=5000, theta=1e6, like=like)
    qkv = normal(ROWS, (heads + 2 * kv_heads) * head_dim, dtype=dtype, device=CUDA)
    cache = make_cache(9, kv_heads, head_dim, dtype=dtype, device=CUDA)
    positions = torch.randperm(5000, device=CUDA)[:ROWS]
    kv_slots = torch.randperm(9 * 16, device=CUDA)[:ROWS]
    kv_slots[5] = -1
    expected, expected_cache = qkv.clone(), cache.clone()
    rope.rotate_and_write(qkv, table, positions, kv_slots, cache, delta=ours)
    rope_twin.rotate_and_write(expected, table, positions, kv_slots, expected_cache, delta=twins)
    assert error(qkv, expected) < TOLERANCE[dtype]
    assert error(cache, expected_cache) < TOLERANCE[dtype]


@pytest.mark.parametrize("rows", [1, 16, 40])
def test_shrink_beside_a_product_reads_what_the_kernel_before_wrote(rows: int) -> None:
    """A chain as in a step, on new inputs each time: a shrink that came too soon would show."""
    width, layers = 2048, 6
    gemm = Nf4Gemm(torch.device(CUDA))
    gemm.prepare()
    linears = [gemm.linear(random_weight(width, width)) for _ in range(layers)]
    site = make_site([[16]] * 5, width, (width,), dtype=torch.bfloat16, device=CUDA)
    tiles = LoraTiles.of(SLOTS[:rows], DECODE_ROWS, CUDA)
    row_slots = slots_of_rows()[:rows]
    weight = torch.ones(width, dtype=torch.bfloat16, device=CUDA)
    start = torch.zeros(rows, width, dtype=torch.bfloat16, device=CUDA)

    def chain(*, beside: bool) -> torch.Tensor:
        residual = start.clone()
        normed = norm.rms_norm(residual, weight, 1e-5)
        for linear in linears:
            y = linear(normed)
            if not beside:
                torch.cuda.synchronize()
            delta = lora.shrink_beside(normed, site, tiles, row_slots)
            if not beside:
                torch.cuda.synchronize()
            normed = norm.add_rms_norm(residual, y, weight, 1e-5, delta=delta)
        return normed

    chain(beside=True)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = chain(beside=True)
    for _ in range(20):
        start.normal_()
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(result, chain(beside=False))
