"""Every kernel on small shapes that fill no tile evenly: for compute-sanitizer, which is slow.

    export PYTORCH_NO_CUDA_MEMORY_CACHING=1   # so that every tensor ends where its memory ends
    compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 9 \\
        python -m pytest -q tests/gpu/test_every_kernel.py

Also with `--tool racecheck`, `synccheck` and `initcheck`. cuda-bindings asks the driver for calls
that it may not have, which are no errors. Results are held against the twins, since a kernel that
wrote nothing would be clean too.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

import bitsandbytes.functional as bnb  # noqa: E402

from server.kernels.cuda.gemm import Nf4Gemm  # noqa: E402
from server.kernels.cuda.nested import NestedNf4Weight, multiply  # noqa: E402
from server.kernels.rope import RopeTable  # noqa: E402
from server.kernels.triton import (  # noqa: E402
    activation,
    adapted_gate,
    adapted_product,
    attention,
    lora,
    masking,
    norm,
    prefill,
    rope,
    sampling,
    tokens,
    unpack,
)
from server.kernels.triton.nf4 import TritonNf4Linear  # noqa: E402
from server.kernels.triton.pieces import Pieces  # noqa: E402
from server.kernels.triton.room import ROOM, empty_rows  # noqa: E402
from server.kernels.triton.site import LoraSite  # noqa: E402
from server.kernels.triton.tiles import DECODE_ROWS, PROMPT_ROWS, LoraTiles  # noqa: E402
from server.kernels.triton.twins import activation as activation_twin  # noqa: E402
from server.kernels.triton.twins import adapted_gate as adapted_gate_twin  # noqa: E402
from server.kernels.triton.twins import adapted_product as adapted_product_twin  # noqa: E402
from server.kernels.triton.twins import attention as attention_twin  # noqa: E402
from server.kernels.triton.twins import lora as lora_twin  # noqa: E402
from server.kernels.triton.twins import masking as masking_twin  # noqa: E402
from server.kernels.triton.twins import norm as norm_twin  # noqa: E402
from server.kernels.triton.twins import rope as rope_twin  # noqa: E402
from server.kernels.triton.twins import sampling as sampling_twin  # noqa: E402
from server.kernels.triton.twins import tokens as tokens_twin  # noqa: E402
from server.kernels.triton.twins import unpack as unpack_twin  # noqa: E402
from tests.support.kernel_cases import (  # noqa: E402
    error,
    make_cache,
    make_chunks,
    make_sampling,
    make_site,
    make_tables,
    normal,
)

pytestmark = pytest.mark.gpu
CUDA, BF16 = "cuda", torch.bfloat16
TOLERANCE = 5e-3
SLOTS = [None if row % 5 == 3 else row % 3 for row in range(21)]
HEADS, KV_HEADS, HEAD_DIM, HIDDEN, INTERMEDIATE = 6, 2, 64, 192, 328


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def rows(count: int, width: int) -> Any:
    return normal(count, width, dtype=BF16, device=CUDA)


def site_of(*widths: int, into: int = HIDDEN) -> LoraSite:
    ranks = [[rank] * len(widths) for rank in (16, 5, 40)]
    return make_site(ranks, into, widths, dtype=BF16, device=CUDA)


@pytest.mark.parametrize("mode", ["exact", "fast", "batch-invariant"])
@pytest.mark.parametrize("into", [HIDDEN, 2 * HIDDEN])
def test_nf4_products(mode: Any, into: int) -> None:
    dense = normal(264, into, dtype=BF16, device=CUDA, std=0.02)
    codes, state = bnb.quantize_4bit(
        dense, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    weight, gemm = NestedNf4Weight.of(codes, state), Nf4Gemm(torch.device(CUDA), mode=mode)
    gemm.prepare()
    linear = gemm.linear(weight)
    for count in (1, 2, 7, 9, 16, 20, 33, 64, 90, 129, 400):
        x = rows(count, into)
        assert error(linear(x), multiply(x, weight)) < TOLERANCE, count


@pytest.mark.parametrize("count", [1, 20, 100])
def test_the_triton_fallback(count: int) -> None:
    dense = normal(264, HIDDEN, dtype=BF16, device=CUDA, std=0.02)
    codes, state = bnb.quantize_4bit(
        dense, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    weight, x = NestedNf4Weight.of(codes, state), rows(count, HIDDEN)
    assert error(TritonNf4Linear.of(weight)(x), multiply(x, weight)) < TOLERANCE


@pytest.mark.parametrize("tile_rows", [DECODE_ROWS, PROMPT_ROWS])
@pytest.mark.parametrize("invariant", [False, True])
def test_lora(tile_rows: int, invariant: bool) -> None:
    if invariant and tile_rows == PROMPT_ROWS:
        pytest.skip("the invariant order is of small tiles")
    widths = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM)
    site, x, y = site_of(*widths), rows(len(SLOTS), HIDDEN), rows(len(SLOTS), sum(widths))
    tiles, expected = LoraTiles.of(SLOTS, tile_rows, CUDA), y.clone()
    lora_twin.add_lora(expected, x, site, tiles)
    (lora.add_lora_invariant if invariant else lora.add_lora)(y, x, site, tiles)
    assert error(y, expected) < TOLERANCE


@pytest.mark.parametrize("spare", [0, 3])
def test_the_gate_of_prompts_behind_lora(spare: int) -> None:
    """spare: tiles that are recorded and hold no row."""
    site, x = site_of(INTERMEDIATE, INTERMEDIATE), rows(len(SLOTS), HIDDEN)
    gate_up, slots = rows(len(SLOTS), 2 * INTERMEDIATE), [-1 if s is None else s for s in SLOTS]
    used = LoraTiles.of(slots, PROMPT_ROWS, CUDA)
    tiles = LoraTiles.empty(len(used.slots) + spare, PROMPT_ROWS, CUDA)
    tiles.slots[: len(used.slots)], tiles.rows[: len(used.slots)] = used.slots, used.rows
    expected = adapted_gate_twin.adapted_silu_mul(gate_up, x, site, used)
    assert error(adapted_gate.adapted_silu_mul(gate_up, x, site, tiles), expected) < TOLERANCE


@pytest.mark.parametrize("slot", [0, 1, -1])
@pytest.mark.parametrize("widths", [(136, 64, 64), (264,)])
@pytest.mark.parametrize("scratch_bytes", [2**27, 128 * (HIDDEN + ROOM) * 2])
def test_products_with_one_adapter_inside(
    slot: int, widths: tuple[int, ...], scratch_bytes: int
) -> None:
    """scratch_bytes: for the whole weight, or for its pieces."""
    count, ranks = 400, [[rank] * len(widths) for rank in (16, 5)]
    dense = normal(264, HIDDEN, dtype=BF16, device=CUDA, std=0.02)
    codes, state = bnb.quantize_4bit(
        dense, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    weight = NestedNf4Weight.of(codes, state)
    linear = Nf4Gemm(torch.device(CUDA), scratch_bytes=scratch_bytes).linear(weight)
    assert linear.unpacks(count)
    site = make_site(ranks, HIDDEN, widths, dtype=BF16, device=CUDA)
    x = empty_rows(rows(count, 1), HIDDEN, ROOM).copy_(rows(count, HIDDEN))
    tiles = LoraTiles.of([slot] * count, PROMPT_ROWS, CUDA)
    result = adapted_product.adapted_product(x, linear, site, tiles)
    expected = adapted_product_twin.adapted_product(x, linear, site, tiles)
    assert error(result, expected) < TOLERANCE
    behind = multiply(x, weight)
    lora_twin.add_lora(behind, x, site, tiles)
    assert error(result, behind) < TOLERANCE


def test_norms() -> None:
    x, residual = rows(21, HIDDEN), rows(21, HIDDEN)
    weight, again = normal(HIDDEN, dtype=BF16, device=CUDA), residual.clone()
    assert error(norm.rms_norm(x, weight, 1e-5), norm_twin.rms_norm(x, weight, 1e-5)) < TOLERANCE
    expected = norm_twin.add_rms_norm(again, x, weight, 1e-5)
    assert error(norm.add_rms_norm(residual, x, weight, 1e-5), expected) < TOLERANCE


@pytest.mark.parametrize("adapted", [False, True])
def test_readers_of_a_product(adapted: bool) -> None:
    """Norm, activation and rotation, adding what adapters change or not."""
    count = len(SLOTS)
    widths = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM)
    row_slots = [-1 if slot is None else slot for slot in SLOTS]
    in_slots = torch.tensor(row_slots, dtype=torch.int32, device=CUDA)
    tiles = LoraTiles.of(SLOTS, DECODE_ROWS, CUDA)

    def deltas(*widths: int) -> tuple[Any, Any]:
        if not adapted:
            return None, None
        site, x = site_of(*widths), rows(count, HIDDEN)
        ours = lora.shrink_beside(x, site, tiles, in_slots)
        return ours, lora_twin.shrink_beside(x, site, tiles, in_slots)

    ours, theirs = deltas(HIDDEN)
    residual, x, weight = rows(count, HIDDEN), rows(count, HIDDEN), rows(1, HIDDEN)[0]
    again = residual.clone()
    expected = norm_twin.add_rms_norm(again, x, weight, 1e-5, delta=theirs)
    assert error(norm.add_rms_norm(residual, x, weight, 1e-5, delta=ours), expected) < TOLERANCE

    ours, theirs = deltas(INTERMEDIATE, INTERMEDIATE)
    gate_up = rows(count, 2 * INTERMEDIATE)
    expected = activation_twin.silu_mul(gate_up, delta=theirs)
    assert error(activation.silu_mul(gate_up, delta=ours), expected) < TOLERANCE

    ours, theirs = deltas(*widths)
    like = torch.empty(0, dtype=BF16, device=CUDA)
    table = RopeTable.build(head_dim=HEAD_DIM, num_positions=99, theta=1e6, like=like)
    qkv, cache = (
        rows(count, sum(widths)),
        make_cache(3, KV_HEADS, HEAD_DIM, dtype=BF16, device=CUDA),
    )
    positions = torch.randperm(99, device=CUDA)[:count]
    kv_slots = torch.randperm(3 * 16, device=CUDA)[:count]
    kv_slots[4] = -1
    wanted, cache_wanted = qkv.clone(), cache.clone()
    rope_twin.rotate_and_write(wanted, table, positions, kv_slots, cache_wanted, delta=theirs)
    rope.rotate_and_write(qkv, table, positions, kv_slots, cache, delta=ours)
    assert error(qkv, wanted) < TOLERANCE
    assert error(cache, cache_wanted) < TOLERANCE


@pytest.mark.parametrize("kept_as", [BF16, torch.float8_e4m3fn])
@pytest.mark.parametrize("window", [None, 40])
def test_attention(kept_as: Any, window: int | None) -> None:
    contexts = [1, 0, 63, 70, 200]
    tables, blocks = make_tables(contexts, device=CUDA)
    cache = make_cache(blocks, KV_HEADS, HEAD_DIM, dtype=kept_as, device=CUDA)
    query = normal(len(contexts), HEADS, HEAD_DIM, dtype=BF16, device=CUDA)
    lengths = torch.tensor(contexts, dtype=torch.int32, device=CUDA)
    for splits in (1, 4):
        given = (query, cache, tables, lengths)
        result = attention.decode_attention(*given, splits=splits, window=window)
        expected = attention_twin.decode_attention(*given, splits=splits, window=window)
        assert error(result, expected) < TOLERANCE
    chunks, blocks = make_chunks([(1, 1), (30, 30), (70, 133), (5, 77)], device=CUDA)
    cache = make_cache(blocks, KV_HEADS, HEAD_DIM, dtype=kept_as, device=CUDA)
    query = normal(106, HEADS, HEAD_DIM, dtype=BF16, device=CUDA)
    result = prefill.prefill_attention(query, cache, chunks, window=window)
    expected = attention_twin.prefill_attention(query, cache, chunks, window=window)
    assert error(result, expected) < TOLERANCE


def test_sampling() -> None:
    choices = [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (0.7, 5, 1.0, 0.0), (1.3, 0, 0.8, 0.1)]
    parameters = make_sampling(choices, device=CUDA)
    logits = normal(4, 1000, dtype=BF16, device=CUDA, std=3.0)
    positions = torch.arange(4, device=CUDA)
    expected = sampling_twin.sample(logits, parameters, positions)
    assert torch.equal(sampling.sample(logits, parameters, positions), expected)
    assert torch.equal(sampling.argmax(logits), sampling_twin.argmax(logits))


def test_masks() -> None:
    logits = normal(5, 1001, dtype=BF16, device=CUDA)
    masks = torch.randint(-(2**31), 2**31, (2, 32), dtype=torch.int32, device=CUDA)
    masked, expected = torch.tensor([4, 1], device=CUDA), logits.clone()
    masking_twin.mask_logits(expected, masks, masked)
    masking.mask_logits(logits, masks, masked)
    assert torch.equal(logits, expected)


def test_known_tokens() -> None:
    chosen = torch.tensor([7, -1, 9, 11], device=CUDA)
    token_ids = torch.tensor([5, ~2, ~1, 0, ~0], device=CUDA)
    found = tokens.known_tokens(token_ids, chosen)
    assert torch.equal(found, tokens_twin.known_tokens(token_ids, chosen))


def test_unpacking() -> None:
    rank, into, out = 5, 100, 72
    stored = normal(rank * (into + out), device=CUDA)
    numbers = [[rank * out, 0, rank, into, 0], [0, rank * into, rank, out, 1]]
    pieces = Pieces(
        torch.tensor(numbers, device=CUDA), torch.tensor([1.0, 0.5], device=CUDA), rank * into
    )
    result, expected = (torch.zeros(rank * (into + out), dtype=BF16, device=CUDA) for _ in range(2))
    unpack.unpack(result, stored, pieces)
    unpack_twin.unpack(expected, stored, pieces)
    assert torch.equal(result, expected)
