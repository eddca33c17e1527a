"""The paged KV cache: which blocks are free, shared, or worth keeping."""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

NULL_BLOCK = 0
"""Pads block tables; never handed out, its content is always masked."""


def block_key(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The identity of a full block: everything before it, and its tokens.

    The first parent is the adapter's digest (or the base's), so a prefix is only ever shared by
    sequences that run with the very same weights.
    """
    digest = hashlib.blake2b(parent, digest_size=16)
    digest.update(struct.pack(f"<{len(tokens)}I", *tokens))
    return digest.digest()


@dataclass
class _Block:
    index: int
    users: int = 0
    key: bytes | None = None


@dataclass
class BlockPool:
    """Hands out blocks, counts their users, and keeps finished prefixes until space is needed.

    A block with no users is free; if it carries a key, its content can still be taken up again by
    `reuse` until `allocate` needs the space (least recently used first).
    """

    num_blocks: int
    block_size: int
    keep_prefixes: bool = True
    _blocks: list[_Block] = field(init=False)
    _free: OrderedDict[int, None] = field(init=False)
    _by_key: dict[bytes, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._blocks = [_Block(index) for index in range(self.num_blocks)]
        self._free = OrderedDict.fromkeys(range(NULL_BLOCK + 1, self.num_blocks))

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_usable(self) -> int:
        return self.num_blocks - 1

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def allocate(self, count: int) -> list[int] | None:
        """`count` blocks with one user each, or None if there are not enough."""
        if count > len(self._free):
            return None
        return [self._take_oldest() for _ in range(count)]

    def _take_oldest(self) -> int:
        index, _ = self._free.popitem(last=False)
        block = self._blocks[index]
        if block.key is not None:
            del self._by_key[block.key]
            block.key = None
        block.users = 1
        return index

    def release(self, indices: Sequence[int]) -> None:
        """Give up one use of each block; the last ones of a sequence are reused first."""
        for index in reversed(indices):
            block = self._blocks[index]
            block.users -= 1
            if block.users == 0:
                self._free[index] = None
                if block.key is None:
                    self._free.move_to_end(index, last=False)

    def reuse(self, keys: Sequence[bytes]) -> list[int]:
        """Take up the longest known prefix of `keys`; its blocks gain a user."""
        found = []
        for key in keys:
            index = self._by_key.get(key)
            if index is None:
                break
            block = self._blocks[index]
            if block.users == 0:
                del self._free[index]
            block.users += 1
            found.append(index)
        return found

    def publish(self, index: int, key: bytes) -> None:
        """Make a full block's content findable. The first block with a key keeps it."""
        block = self._blocks[index]
        if self.keep_prefixes and block.key is None and key not in self._by_key:
            block.key = key
            self._by_key[key] = index

    def forget(self, keys: Sequence[bytes]) -> None:
        """Let nobody take up these contents any more; whoever uses the blocks keeps them."""
        for key in keys:
            index = self._by_key.pop(key, None)
            if index is not None:
                self._blocks[index].key = None
                if index in self._free:
                    self._free.move_to_end(index, last=False)

    def check(self) -> None:
        """Assert the pool's own invariants; cheap enough to run whenever the engine is idle."""
        for block in self._blocks[NULL_BLOCK + 1 :]:
            assert block.users >= 0
            assert (block.users == 0) == (block.index in self._free)
            assert block.key is None or self._by_key[block.key] == block.index
