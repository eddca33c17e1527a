"""Paged attention of decoding and of prompts against its twins, under Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if torch.cuda.is_available():
    pytest.skip("tests/gpu holds the kernels on the device", allow_module_level=True)

from server.kernels.triton import attention, prefill
from server.kernels.triton.splits import MOST_SPLITS, splits_for
from server.kernels.triton.twins import attention as twin
from tests.support.kernel_cases import (
    POISON,
    error,
    make_cache,
    make_chunks,
    make_tables,
    normal,
)

TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3}
LENGTHS = [1, 16, 0, 63, 64, 65, 200]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(8, 2, 64), (9, 3, 80), (4, 4, 128)])
@pytest.mark.parametrize(("splits", "window"), [(1, None), (3, None), (1, 50), (8, 7)])
def test_decoding_equals_the_twin(
    dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int, splits: int, window: int | None
) -> None:
    tables, blocks = make_tables(LENGTHS)
    cache = make_cache(blocks, kv_heads, head_dim, dtype=dtype)
    query = normal(len(LENGTHS), heads, head_dim, dtype=dtype)
    lengths = torch.tensor(LENGTHS, dtype=torch.int32)
    arguments = (query, cache, tables, lengths)
    result = attention.decode_attention(*arguments, splits=splits, window=window)
    expected = twin.decode_attention(*arguments, splits=splits, window=window)
    assert error(result, expected) < TOLERANCE[dtype]
    assert not result[LENGTHS.index(0)].any()


def test_a_query_inside_merged_projections_and_a_cache_by_heads() -> None:
    """Neither the query nor the cache need be dense."""
    tables, blocks = make_tables([30, 70])
    by_heads = normal(2, blocks, 2, 16, 64)  # [2, blocks, kv_heads, block_size, head_dim]
    cache = by_heads.transpose(2, 3)
    query = normal(2, 8 + 4, 64)[:, :8]
    lengths = torch.tensor([30, 70], dtype=torch.int32)
    result = attention.decode_attention(query, cache, tables, lengths, splits=2)
    expected = twin.decode_attention(query, cache, tables, lengths, splits=2)
    assert error(result, expected) < TOLERANCE[torch.float32]


def test_what_others_left_in_a_block_counts_nothing() -> None:
    tables, blocks = make_tables([20])
    cache = make_cache(blocks, 2, 64, dtype=torch.float32)
    query, lengths = normal(1, 4, 64), torch.tensor([20], dtype=torch.int32)
    before = attention.decode_attention(query, cache, tables, lengths, splits=2)
    cache[:, tables[0, 1], 4:] = POISON
    cache[:, 0] = POISON
    after = attention.decode_attention(query, cache, tables, lengths, splits=2)
    assert torch.equal(before, after)


def test_company_changes_no_bit() -> None:
    tables, blocks = make_tables(LENGTHS)
    cache = make_cache(blocks, 2, 64, dtype=torch.float32)
    query, lengths = normal(len(LENGTHS), 8, 64), torch.tensor(LENGTHS, dtype=torch.int32)
    together = attention.decode_attention(query, cache, tables, lengths, splits=4)
    alone = attention.decode_attention(query[5:6], cache, tables[5:6], lengths[5:6], splits=4)
    assert torch.equal(together[5:6], alone)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(6, 2, 64), (3, 1, 80)])
@pytest.mark.parametrize("window", [None, 40])
def test_prompts_equal_the_twin(
    dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int, window: int | None
) -> None:
    chunks, blocks = make_chunks([(1, 1), (150, 150), (33, 100), (5, 133)])
    cache = make_cache(blocks, kv_heads, head_dim, dtype=dtype)
    cache[:, 0] = POISON
    query = normal(1 + 150 + 33 + 5, heads, head_dim, dtype=dtype)
    result = prefill.prefill_attention(query, cache, chunks, window=window)
    expected = twin.prefill_attention(query, cache, chunks, window=window)
    assert error(result, expected) < TOLERANCE[dtype]


def test_a_cache_with_scales() -> None:
    tables, blocks = make_tables([30])
    cache = make_cache(blocks, 2, 64, dtype=torch.float32)
    query, lengths = normal(1, 4, 64), torch.tensor([30], dtype=torch.int32)
    whole = cache * torch.tensor([0.5, 3.0]).view(2, 1, 1, 1, 1)
    scaled = attention.decode_attention(
        query, cache, tables, lengths, splits=2, kv_scales=(0.5, 3.0)
    )
    plain = attention.decode_attention(query, whole, tables, lengths, splits=2)
    assert error(scaled, plain) < TOLERANCE[torch.float32]


def test_splits_fill_the_device_and_no_more() -> None:
    assert splits_for(128, 8) == 1
    assert splits_for(16, 8) == 4
    assert splits_for(1, 8) == MOST_SPLITS
