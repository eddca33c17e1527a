"""Paged attention against a dense re-computation: windows, shared KV heads, chunks, padding."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from server.kernels.attention import AttentionGroup, attend, write_kv

SIZE, HEAD_DIM, NUM_BLOCKS = 4, 8, 40


class Paged:
    """Sequences whose keys and values lie scattered over one layer's cache."""

    def __init__(self, lengths: list[int], kv_heads: int, dtype: torch.dtype, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.kv_heads, self.dtype = kv_heads, dtype
        self.cache = self.random(2, NUM_BLOCKS, SIZE, kv_heads, HEAD_DIM)  # rubbish everywhere
        free = (torch.randperm(NUM_BLOCKS - 1, generator=self._generator) + 1).tolist()
        self.blocks, self.keys, self.values = [], [], []
        for length in lengths:
            blocks = [free.pop() for _ in range(-(-length // SIZE))]
            keys, values = (self.random(length, kv_heads, HEAD_DIM) for _ in range(2))
            slots = [blocks[p // SIZE] * SIZE + p % SIZE for p in range(length)]
            write_kv(self.cache, torch.tensor(slots), keys, values)
            self.blocks.append(blocks)
            self.keys.append(keys)
            self.values.append(values)

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator).to(self.dtype)

    def group(
        self, positions: list[list[int]], group_size: int, window: int | None
    ) -> AttentionGroup:
        """All sequences, each with queries at its `positions`, padded to the longest."""
        width = max(map(len, self.blocks))
        table = torch.tensor([blocks + [0] * (width - len(blocks)) for blocks in self.blocks])
        where = torch.arange(width * SIZE)
        at = torch.tensor(positions)[:, :, None]
        hidden = (where > at) | (where <= at - window if window else torch.zeros(1).bool())
        mask = torch.zeros(hidden.shape, dtype=self.dtype).masked_fill_(hidden, -torch.inf)
        queries = len(positions[0])
        rows = slice(0, len(positions) * queries)
        return AttentionGroup(rows, queries, table, mask.repeat(1, group_size, 1)[:, None])

    def densely(
        self, query: torch.Tensor, sequence: int, position: int, window: int | None
    ) -> torch.Tensor:
        """One query [heads, head_dim] over its own past, head by head, in fp64."""
        first = max(0, position + 1 - window) if window else 0
        heads = []
        for head, vector in enumerate(query.double()):
            kv = head // (len(query) // self.kv_heads)
            keys = self.keys[sequence][first : position + 1, kv].double()
            values = self.values[sequence][first : position + 1, kv].double()
            weights = (keys @ vector / math.sqrt(HEAD_DIM)).softmax(-1)
            heads.append(weights @ values)
        return torch.stack(heads)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)], ids=["fp32", "bf16"]
)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    queries=st.integers(1, 20),
    heads=st.sampled_from([(4, 4), (4, 2), (4, 1), (6, 2)]),
    window=st.sampled_from([None, 1, 3, 8]),
    seed=st.integers(0, 99),
)
def test_it_is_attention(
    lengths: list[int],
    queries: int,
    heads: tuple[int, int],
    window: int | None,
    seed: int,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    num_heads, kv_heads = heads
    queries = min(queries, *lengths)
    paged = Paged(lengths, kv_heads, dtype, seed)
    positions = [list(range(length - queries, length)) for length in lengths]
    query = paged.random(len(lengths) * queries, num_heads, HEAD_DIM)
    group = paged.group(positions, num_heads // kv_heads, window)
    result = attend(query, paged.cache, group).double()
    for sequence, places in enumerate(positions):
        for index, position in enumerate(places):
            row = sequence * queries + index
            expected = paged.densely(query[row], sequence, position, window)
            torch.testing.assert_close(result[row], expected, rtol=tolerance, atol=tolerance)


def test_what_lies_beyond_a_sequence_does_not_matter() -> None:
    paged = Paged([5, 18], 2, torch.float32, seed=1)
    query = paged.random(2, 4, HEAD_DIM)
    group = paged.group([[4], [17]], 2, None)
    before = attend(query, paged.cache, group)
    paged.cache[:, 0] = 1e4  # the block that pads
    paged.cache[:, paged.blocks[0][1], 1:] = -1e4  # the unfilled end of a block
    assert torch.equal(attend(query, paged.cache, group), before)


def test_writing_touches_the_given_places_only() -> None:
    cache = torch.zeros(2, 3, SIZE, 1, HEAD_DIM)
    write_kv(
        cache, torch.tensor([5, 8]), torch.ones(2, 1, HEAD_DIM), torch.full((2, 1, HEAD_DIM), 2.0)
    )
    flat = cache.flatten(1, 2)[:, :, 0, 0]
    assert flat[0].nonzero().flatten().tolist() == [5, 8]
    assert flat[1].tolist() == (2 * flat[0]).tolist()
