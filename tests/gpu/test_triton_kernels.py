"""The step's Triton kernels on the device: against their twins, in graphs, and their times."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from server.kernels.rope import RopeTable  # noqa: E402
from server.kernels.triton import (  # noqa: E402
    activation,
    attention,
    lora,
    norm,
    prefill,
    rope,
    sampling,
)
from server.kernels.triton.tiles import DECODE_ROWS, PROMPT_ROWS, LoraTiles  # noqa: E402
from server.kernels.triton.twins import activation as activation_twin  # noqa: E402
from server.kernels.triton.twins import attention as attention_twin  # noqa: E402
from server.kernels.triton.twins import lora as lora_twin  # noqa: E402
from server.kernels.triton.twins import norm as norm_twin  # noqa: E402
from server.kernels.triton.twins import rope as rope_twin  # noqa: E402
from server.kernels.triton.twins import sampling as sampling_twin  # noqa: E402
from tests.gpu import bench_triton_kernels  # noqa: E402
from tests.support.kernel_cases import (  # noqa: E402
    POISON,
    error,
    make_cache,
    make_chunks,
    make_sampling,
    make_site,
    make_tables,
    normal,
)

pytestmark = pytest.mark.gpu
CUDA = "cuda"
TOLERANCE = {torch.bfloat16: 5e-3, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@DTYPES
@pytest.mark.parametrize(
    ("in_features", "widths"),
    [(4096, (4096, 1024, 1024)), (14336, (4096,)), (576, (1536, 1536)), (100, (36,))],
)
@pytest.mark.parametrize("tile_rows", [DECODE_ROWS, PROMPT_ROWS])
def test_lora(
    dtype: torch.dtype, in_features: int, widths: tuple[int, ...], tile_rows: int
) -> None:
    ranks = [[rank] * len(widths) for rank in (16, 8, 64, 3)] + [[5, *[0] * (len(widths) - 1)]]
    site = make_site(ranks, in_features, widths, dtype=dtype, device=CUDA)
    slots = [None if row % 7 == 3 else row * row % 5 for row in range(100)]
    tiles = LoraTiles.of(slots, tile_rows, CUDA)
    x = normal(100, in_features, dtype=dtype, device=CUDA)
    y = normal(100, sum(widths), dtype=dtype, device=CUDA)
    expected, again = y.clone(), y.clone()
    lora_twin.add_lora(expected, x, site, tiles)
    lora.add_lora(y, x, site, tiles)
    lora.add_lora(again, x, site, tiles)
    assert error(y, expected) < TOLERANCE[dtype]
    assert torch.equal(y, again)


def test_lora_by_itself_and_in_company() -> None:
    site = make_site([[16] * 3] * 4, 4096, (4096, 1024, 1024), dtype=torch.bfloat16, device=CUDA)
    x = normal(64, 4096, dtype=torch.bfloat16, device=CUDA)
    y = normal(64, 6144, dtype=torch.bfloat16, device=CUDA)
    together, alone = y.clone(), y[9:10].clone()
    lora.add_lora(
        together, x, site, LoraTiles.of([row % 4 for row in range(64)], DECODE_ROWS, CUDA)
    )
    lora.add_lora(alone, x[9:10], site, LoraTiles.of([1], DECODE_ROWS, CUDA))
    assert torch.equal(together[9:10], alone)


@DTYPES
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(32, 8, 128), (9, 3, 64), (4, 4, 80)])
@pytest.mark.parametrize(("splits", "window"), [(1, None), (4, None), (8, 100), (1, 100)])
def test_decode_attention(
    dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int, splits: int, window: int | None
) -> None:
    contexts = [1, 16, 0, 63, 64, 65, 1000, 3000]
    tables, blocks = make_tables(contexts, device=CUDA)
    cache = make_cache(blocks, kv_heads, head_dim, dtype=dtype, device=CUDA)
    cache[:, 0] = POISON
    query = normal(len(contexts), heads, head_dim, dtype=dtype, device=CUDA)
    lengths = torch.tensor(contexts, dtype=torch.int32, device=CUDA)
    arguments = (query, cache, tables, lengths)
    result = attention.decode_attention(*arguments, splits=splits, window=window)
    expected = attention_twin.decode_attention(*arguments, splits=splits, window=window)
    assert error(result, expected) < TOLERANCE[dtype]
    alone = attention.decode_attention(
        query[6:7], cache, tables[6:7], lengths[6:7], splits=splits, window=window
    )
    assert torch.equal(result[6:7], alone)


def test_attention_over_fp8() -> None:
    tables, blocks = make_tables([700], device=CUDA)
    cache = make_cache(blocks, 8, 128, dtype=torch.float8_e4m3fn, device=CUDA)
    query = normal(1, 32, 128, dtype=torch.bfloat16, device=CUDA)
    lengths = torch.tensor([700], dtype=torch.int32, device=CUDA)
    arguments = (query, cache, tables, lengths)
    result = attention.decode_attention(*arguments, splits=4, kv_scales=(0.5, 2.0))
    expected = attention_twin.decode_attention(*arguments, splits=4, kv_scales=(0.5, 2.0))
    assert error(result, expected) < TOLERANCE[torch.bfloat16]


@DTYPES
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(32, 8, 128), (9, 3, 64), (4, 4, 80)])
@pytest.mark.parametrize("window", [None, 300])
def test_prefill_attention(
    dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int, window: int | None
) -> None:
    pairs = [(1, 1), (600, 600), (129, 1000), (5, 133)]
    chunks, blocks = make_chunks(pairs, device=CUDA)
    cache = make_cache(blocks, kv_heads, head_dim, dtype=dtype, device=CUDA)
    cache[:, 0] = POISON
    query = normal(sum(count for count, _ in pairs), heads, head_dim, dtype=dtype, device=CUDA)
    result = prefill.prefill_attention(query, cache, chunks, window=window)
    expected = attention_twin.prefill_attention(query, cache, chunks, window=window)
    assert error(result, expected) < TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize("hidden", [576, 4096, 5120])
def test_norms(dtype: torch.dtype, hidden: int) -> None:
    residual = normal(65, hidden, dtype=dtype, device=CUDA)
    x, weight = torch.randn_like(residual), normal(hidden, dtype=dtype, device=CUDA)
    plain, expected_plain = norm.rms_norm(x, weight, 1e-5), norm_twin.rms_norm(x, weight, 1e-5)
    assert error(plain, expected_plain) < TOLERANCE[dtype]
    expected_residual = residual.clone()
    expected = norm_twin.add_rms_norm(expected_residual, x, weight, 1e-5)
    assert error(norm.add_rms_norm(residual, x, weight, 1e-5), expected) < TOLERANCE[dtype]
    assert torch.equal(residual, expected_residual)


@DTYPES
def test_activation(dtype: torch.dtype) -> None:
    gate_up = normal(33, 2 * 14336, dtype=dtype, device=CUDA)
    expected = activation_twin.silu_mul(gate_up)
    assert error(activation.silu_mul(gate_up), expected) < TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(32, 8, 128), (4, 4, 80)])
def test_rotation_and_write(dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> None:
    like = torch.empty(0, dtype=dtype, device=CUDA)
    table = RopeTable.build(head_dim=head_dim, num_positions=5000, theta=1e6, like=like)
    qkv = normal(40, (heads + 2 * kv_heads) * head_dim, dtype=dtype, device=CUDA)
    cache = make_cache(9, kv_heads, head_dim, dtype=dtype, device=CUDA)
    positions = torch.randperm(5000, device=CUDA)[:40]
    kv_slots = torch.randperm(9 * 16, device=CUDA)[:40]
    kv_slots[5] = -1
    expected, expected_cache = qkv.clone(), cache.clone()
    rope_twin.rotate_and_write(expected, table, positions, kv_slots, expected_cache)
    rope.rotate_and_write(qkv, table, positions, kv_slots, cache)
    assert error(qkv, expected) < TOLERANCE[dtype]
    assert error(cache, expected_cache) < TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize("vocab", [300, 32768])
def test_sampling(dtype: torch.dtype, vocab: int) -> None:
    choices = [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (0.7, 5, 1.0, 0.0), (1.3, 0, 0.8, 0.0)]
    choices += [(0.9, 0, 1.0, 0.2), (1.5, 40, 0.9, 0.01)]
    parameters = make_sampling(choices * 20, device=CUDA)
    logits = normal(120, vocab, dtype=dtype, device=CUDA, std=3.0)
    positions = torch.arange(120, device=CUDA) * 999
    result = sampling.sample(logits, parameters, positions)
    expected = sampling_twin.sample(logits, parameters, positions)
    # The nucleus ends where rounding decides once in some thousand rows.
    assert (result != expected).sum() <= 1
    assert torch.equal(sampling.argmax(logits), sampling_twin.argmax(logits))


def test_one_graph_serves_any_mix() -> None:
    site = make_site(
        [[16] * 2, [8] * 2, [64] * 2], 512, (256, 128), dtype=torch.bfloat16, device=CUDA
    )
    tiles = LoraTiles.empty(8, DECODE_ROWS, CUDA)
    x = normal(8, 512, dtype=torch.bfloat16, device=CUDA)
    y, base = (
        torch.empty(8, 384, dtype=torch.bfloat16, device=CUDA),
        normal(8, 384, dtype=torch.bfloat16, device=CUDA),
    )

    def step() -> None:
        y.copy_(base)
        lora.add_lora(y, x, site, tiles)

    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for slots in ([None] * 8, [0] * 8, [2, 1, None, 0, 0, 1, 2, 2]):
        used = LoraTiles.of(slots, DECODE_ROWS, CUDA)
        tiles.slots.fill_(-1)
        tiles.slots[: len(used.slots)] = used.slots
        tiles.rows[: len(used.rows)] = used.rows
        graph.replay()
        expected = base.clone()
        lora_twin.add_lora(expected, x, site, tiles)
        assert error(y, expected) < TOLERANCE[torch.bfloat16]


def test_times() -> None:
    """Prints the table; what the times must reach is for the whole step's benchmark to hold."""
    bench_triton_kernels.main()
