"""Slots laid out for the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from server.engine.config import GROUPS, ModelConfig
from server.engine.slots import Factors, PackedAdapter, Site
from server.kernels.cpu.lora import WIDTH
from server.kernels.cpu.product import OUTS
from server.kernels.cpu.records import FACTORS, MOST_PARTS


class CompiledSlots:
    """Factors of every site, read from front to back by whoever computes a few outputs.

    A: [slots, rank rows, in], the merged projections' one below the other, in multiples of OUTS.
    B: [slots, out / WIDTH, max_rank, WIDTH]: of the ranks, only those of the projection that the
    outputs belong to.
    """

    def __init__(self, config: ModelConfig, *, num_slots: int, max_rank: int) -> None:
        self.num_slots = num_slots
        self.max_rank = max_rank
        self._sites: dict[Site, _SiteFactors] = {
            (layer, group): _SiteFactors(config, group, num_slots, max_rank)
            for layer in range(config.num_layers)
            for group in GROUPS
        }

    @property
    def most_ranks(self) -> int:
        """Rank rows of the site that has the most."""
        return max(site.shrink.shape[1] for site in self._sites.values())

    def write(self, slot: int, adapter: PackedAdapter) -> None:
        """Put an adapter into a slot, over whatever was there."""
        for place, site in self._sites.items():
            site.write(slot, adapter.sites.get(place))

    def has_arrived(self, _slot: int) -> bool:
        return True

    def describe(self, site: Site) -> np.ndarray[Any, Any]:
        """One FACTORS; it holds as long as the slots do."""
        return self._sites[site].describe()


class _SiteFactors:
    """All slots' factors at one site, and how many ranks each projection has in each slot."""

    def __init__(self, config: ModelConfig, group: str, num_slots: int, max_rank: int) -> None:
        out_features, in_features = config.group_shape(group)
        rows = -(-len(GROUPS[group]) * max_rank // OUTS) * OUTS
        self.shrink = torch.zeros(num_slots, rows, in_features, dtype=torch.bfloat16)
        self.expand = torch.zeros(
            num_slots, out_features // WIDTH, max_rank, WIDTH, dtype=torch.bfloat16
        )
        self.ranks = np.zeros((num_slots, MOST_PARTS), np.int64)
        widths = [config.projection_shape(projection)[0] for projection in GROUPS[group]]
        self.ends = np.cumsum(widths).tolist()

    def write(self, slot: int, factors: Factors | None) -> None:
        self.ranks[slot] = 0
        if factors is None:
            return
        self.ranks[slot, : len(factors.ranks)] = factors.ranks
        self.shrink[slot, : factors.rank].copy_(factors.shrink)
        row = start = 0
        for rank, end in zip(factors.ranks, self.ends, strict=True):
            part = factors.expand[row : row + rank, start:end]
            blocks = self.expand[slot, start // WIDTH : end // WIDTH, :rank]
            blocks.copy_(part.reshape(rank, (end - start) // WIDTH, WIDTH).transpose(0, 1))
            row, start = row + rank, end

    def describe(self) -> np.ndarray[Any, Any]:
        record = np.zeros(1, FACTORS)
        record["shrink"], record["expand"] = self.shrink.data_ptr(), self.expand.data_ptr()
        record["shrink_rows"], record["expand_rows"] = self.shrink.shape[1], self.expand.shape[2]
        record["ranks"] = self.ranks.ctypes.data
        record["ends"] = self.ends + self.ends[-1:] * (MOST_PARTS - len(self.ends))
        return record
