"""Adapters in host memory, ready to be copied into a slot."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from server.engine.arena import Blob
from server.engine.slots import PackedAdapter

HostAdapter = PackedAdapter | Blob
"""An adapter in host memory, laid out as the slots hold it."""


@dataclass
class HostCache:
    """Beyond `capacity` bytes the least recently used adapters leave; the newest stays."""

    capacity: int
    _adapters: OrderedDict[str, HostAdapter] = field(default_factory=OrderedDict)

    def put(self, adapter: HostAdapter) -> None:
        self._adapters[adapter.digest] = adapter
        self._adapters.move_to_end(adapter.digest)
        while self.nbytes > self.capacity and len(self._adapters) > 1:
            self._adapters.popitem(last=False)

    def get(self, digest: str) -> HostAdapter | None:
        adapter = self._adapters.get(digest)
        if adapter is not None:
            self._adapters.move_to_end(digest)
        return adapter

    def drop(self, digest: str) -> bool:
        return self._adapters.pop(digest, None) is not None

    def __iter__(self) -> Iterator[HostAdapter]:
        return iter(self._adapters.values())

    @property
    def nbytes(self) -> int:
        return sum(adapter.nbytes for adapter in self._adapters.values())
