"""Compiled attention of one query against a dense re-computation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from server.kernels.cpu.support import HEAD_DIMS, is_supported

if not is_supported():
    pytest.skip("needs AVX-512 with bf16", allow_module_level=True)

from server.kernels.cpu.attention import attend

KV_HEADS, NUM_BLOCKS = 2, 12


class Head:
    """One KV head of a cache with random content, and a sequence's scattered blocks of it."""

    def __init__(self, *, head_dim: int, block_size: int, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.head_dim, self.block_size = head_dim, block_size
        self.cache = self.random(2, NUM_BLOCKS, block_size, KV_HEADS, head_dim)
        self.table = torch.randperm(NUM_BLOCKS, generator=self._generator)
        self.query = self.random(head_dim)

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator).bfloat16()

    def attend(self, first: int, end: int) -> torch.Tensor:
        out, scores = torch.empty_like(self.query), torch.empty(end + 32)
        stride = 2 * KV_HEADS * self.head_dim
        attend(
            self.query.data_ptr(),
            self.cache[0, 0, 0, 1].data_ptr(),
            self.cache[1, 0, 0, 1].data_ptr(),
            self.table.data_ptr(),
            first,
            end,
            self.block_size,
            stride,
            self.head_dim,
            scores.data_ptr(),
            out.data_ptr(),
        )
        return out

    def densely(self, first: int, end: int) -> torch.Tensor:
        keys, values = self.cache[:, self.table, :, 1].flatten(1, 2)[:, first:end].double()
        weights = (keys @ self.query.double() / math.sqrt(self.head_dim)).softmax(0)
        return weights @ values


heads = st.builds(
    Head,
    head_dim=st.sampled_from(HEAD_DIMS),
    block_size=st.sampled_from([16, 32]),
    seed=st.integers(0, 99),
)


@settings(deadline=None)
@given(head=heads, end=st.integers(1, NUM_BLOCKS * 16), window=st.integers(1, 250))
def test_it_is_attention(head: Head, end: int, window: int) -> None:
    first = max(0, end - window)
    found, expected = head.attend(first, end).double(), head.densely(first, end)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)


@settings(deadline=None)
@given(head=heads, end=st.integers(1, NUM_BLOCKS * 16), window=st.integers(1, 250))
def test_what_lies_outside_does_not_matter(head: Head, end: int, window: int) -> None:
    first = max(0, end - window)
    before = head.attend(first, end)
    flat = head.cache[:, head.table].flatten(1, 2)
    flat[:, :first], flat[:, end:] = 1e4, -1e4
    head.cache[:, head.table] = flat.view(2, NUM_BLOCKS, -1, KV_HEADS, head.head_dim)
    assert torch.equal(head.attend(first, end), before)


def test_scores_out_of_range_are_no_numbers() -> None:
    head = Head(head_dim=64, block_size=16, seed=1)
    head.cache[0] = torch.inf
    assert head.attend(0, 20).isnan().all()
