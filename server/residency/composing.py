"""Compositions: adapters added up in host memory, to be one adapter from there on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch

from server.engine.request import AdapterRef
from server.engine.slots import Factors, PackedAdapter
from server.errors import CompositionTooLarge
from server.residency.host import HostAdapter
from server.residency.source import HostSource

Add = Callable[[AdapterRef, Sequence[tuple[Any, float]]], HostAdapter]
"""Makes one adapter of several, each as the slots want it, and what each is multiplied by."""


class ComposingSource:
    """Loads versions from the source behind it, and makes compositions of them.

    A version that is in host memory, or in a slot, is not read again. Called by several threads.
    """

    def __init__(self, source: HostSource, add: Add, *, max_rank: int) -> None:
        self._source = source
        self._add = add
        self._max_rank = max_rank
        self._held: WeakValueDictionary[str, HostAdapter] = WeakValueDictionary()

    def load(self, adapter: AdapterRef) -> HostAdapter:
        if not adapter.parts:
            loaded = self._source.load(adapter)
            self._held[adapter.digest] = loaded
            return loaded
        parts = [(self._find(part.adapter), part.scale) for part in adapter.parts]
        composed = self._add(adapter, parts)
        if composed.rank > self._max_rank:
            raise CompositionTooLarge(
                f"the adapters of {adapter.label} have rank {composed.rank} together; this "
                f"server's slots take up to {self._max_rank} (start it with --max-rank "
                f"{composed.rank})",
                param="adapters",
            )
        return composed

    def _find(self, version: AdapterRef) -> HostAdapter:
        return self._held.get(version.digest) or self.load(version)


def add_packed(adapter: AdapterRef, parts: Sequence[tuple[PackedAdapter, float]]) -> PackedAdapter:
    """Factors stacked, not multiplied out: the sum is exact, and its rank is the ranks' sum.

    It is what PEFT's `add_weighted_adapter(combination_type="cat")` makes, but that the scales go
    into B.
    """
    places = sorted({site for packed, _ in parts for site in packed.sites})
    sites = {
        site: _stacked([(p.sites[site], scale) for p, scale in parts if site in p.sites])
        for site in places
    }
    rank = max(max(factors.ranks) for factors in sites.values())
    return PackedAdapter(adapter.digest, adapter.label, rank, sites)


def _stacked(parts: Sequence[tuple[Factors, float]]) -> Factors:
    """Of each merged projection in turn, every adapter's rows."""
    shrinks = [torch.split(factors.shrink, list(factors.ranks)) for factors, _ in parts]
    expands = [torch.split(factors.expand * scale, list(factors.ranks)) for factors, scale in parts]
    ranks = zip(*(factors.ranks for factors, _ in parts), strict=True)
    return Factors(_interleaved(shrinks), _interleaved(expands), tuple(map(sum, ranks)))


def _interleaved(adapters: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """adapters: each one's rows, by projection."""
    return torch.cat([rows for projection in zip(*adapters, strict=True) for rows in projection])
