"""Blocks are never lost, never used twice, and a reused prefix is what was written there."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.engine.kv_cache import NULL_BLOCK, BlockPool, block_key

SIZE = 4


def keys_of(tokens: list[int], parent: bytes = b"base") -> list[bytes]:
    """Keys of the full blocks of `tokens`."""
    keys: list[bytes] = []
    for start in range(0, len(tokens) - SIZE + 1, SIZE):
        keys.append(block_key(keys[-1] if keys else parent, tokens[start : start + SIZE]))
    return keys


class Sequences(RuleBasedStateMachine):
    """Sequences come, publish what they have written, and go; `content` is the cache's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(num_blocks=9, block_size=SIZE)
        self.held: list[tuple[list[int], list[bytes]]] = []
        self.content: dict[int, bytes] = {}

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=24), parent=st.sampled_from("ab"))
    def begin(self, tokens: list[int], parent: str) -> None:
        keys = keys_of(tokens, parent.encode())
        reused = self.pool.reuse(keys[: (len(tokens) - 1) // SIZE])
        assert [self.content[block] for block in reused] == keys[: len(reused)]
        count = self.pool.blocks_for(len(tokens)) - len(reused)
        free = self.pool.num_free
        fresh = self.pool.allocate(count)
        if fresh is None:
            assert count > free
            self.pool.release(reused)
            return
        in_use = {block for blocks, _ in self.held for block in blocks} | set(reused)
        assert len(set(fresh)) == count
        assert not in_use & set(fresh)
        for block in fresh:
            self.content[block] = b"being written"
        self.held.append((reused + fresh, keys))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        blocks, keys = data.draw(st.sampled_from(self.held))
        for block, key in zip(blocks, keys, strict=False):
            self.content[block] = key
            self.pool.publish(block, key)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        blocks, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.pool.release(blocks)

    @invariant()
    def every_block_is_free_or_held(self) -> None:
        in_use = {block for blocks, _ in self.held for block in blocks}
        assert NULL_BLOCK not in in_use
        assert self.pool.num_free == self.pool.num_usable - len(in_use)
        self.pool.check()

    def teardown(self) -> None:
        for blocks, _ in self.held:
            self.pool.release(blocks)
        assert self.pool.num_free == self.pool.num_usable


TestSequences = Sequences.TestCase


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(num_blocks=5, block_size=SIZE)


def written(pool: BlockPool, tokens: list[int]) -> list[bytes]:
    """A finished sequence's keys, its blocks free again but findable."""
    keys = keys_of(tokens)
    blocks = pool.allocate(len(keys))
    assert blocks is not None
    for block, key in zip(blocks, keys, strict=True):
        pool.publish(block, key)
    pool.release(blocks)
    return keys


def test_a_known_prefix_is_taken_up_as_far_as_it_is_known(pool: BlockPool) -> None:
    keys = written(pool, [1] * 8)
    longer = keys_of([1] * 8 + [2] * 4)
    assert longer[:2] == keys
    assert len(pool.reuse(longer)) == 2


def test_a_block_in_the_middle_is_no_prefix(pool: BlockPool) -> None:
    written(pool, [1] * 4 + [2] * 4)
    assert pool.reuse(keys_of([2] * 4)) == []


def test_the_same_tokens_of_another_adapter_are_another_prefix() -> None:
    assert block_key(b"sha256:one", [1, 2, 3, 4]) != block_key(b"sha256:two", [1, 2, 3, 4])


def test_blocks_without_a_prefix_are_taken_before_those_with_one(pool: BlockPool) -> None:
    keys = written(pool, [1] * 8)
    assert pool.allocate(2) is not None
    assert len(pool.reuse(keys)) == 2


def test_the_least_recently_used_prefix_goes_first(pool: BlockPool) -> None:
    old, new = written(pool, [1] * 8), written(pool, [2] * 8)
    pool.release(pool.reuse(old))  # used again: now it is the newer one
    assert pool.allocate(2) is not None
    assert pool.reuse(new) == []
    assert len(pool.reuse(old)) == 2


def test_a_prefix_loses_its_end_before_its_beginning(pool: BlockPool) -> None:
    keys = written(pool, [1] * 16)
    assert pool.allocate(1) is not None
    assert len(pool.reuse(keys)) == 3


def test_a_shared_block_stays_until_its_last_user_leaves(pool: BlockPool) -> None:
    keys = written(pool, [1] * 8)
    first, second = pool.reuse(keys), pool.reuse(keys)
    assert first == second
    pool.release(first)
    assert pool.allocate(3) is None
    pool.release(second)
    assert pool.allocate(4) is not None


def test_without_the_prefix_cache_nothing_is_kept() -> None:
    pool = BlockPool(num_blocks=5, block_size=SIZE, keep_prefixes=False)
    assert pool.reuse(written(pool, [1] * 8)) == []


def test_what_is_forgotten_is_taken_up_by_nobody_and_given_away_first(pool: BlockPool) -> None:
    kept, forgotten = written(pool, [1] * 8), written(pool, [2] * 8)
    held = pool.reuse(forgotten[:1])
    pool.forget([*forgotten, b"unknown"])
    assert pool.reuse(forgotten) == []
    assert pool.allocate(1) is not None
    assert len(pool.reuse(kept)) == 2
    pool.release(held)
    pool.check()
