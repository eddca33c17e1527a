"""Compositions for a device: files one after the other, unpacked into one slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from server.engine.arena import Blob, blob_table, places_of, projections_of
from server.engine.config import ModelConfig
from server.engine.request import AdapterRef
from server.kernels.triton.pieces import FROM, IS_EXPAND, LENGTH, TO, Pieces
from server.kernels.triton.site import EXPAND, RANK, SHRINK
from server.residency.blob_layout import CONVERTED
from server.residency.pinned import Extent, PinnedMemory


@dataclass(frozen=True)
class BlobAdder:
    """Makes one blob of several. In a slot, A and B of a projection are [rank, ·], so the next
    adapter's ranks go behind those of the ones before it; the scales go into B.
    """

    memory: PinnedMemory
    config: ModelConfig

    def __call__(self, adapter: AdapterRef, parts: Sequence[tuple[Blob, float]]) -> Blob:
        blobs = [blob for blob, _ in parts]
        ranks = torch.stack([blob.table[..., RANK] for blob in blobs])  # [blobs, sites, parts]
        together = ranks.sum(0)
        places, num_elements = places_of(
            self.config,
            {
                (layer, name): int(together[site, part])
                for site, part, layer, name in projections_of(self.config)
            },
        )
        table = blob_table(self.config, places)
        extent, data, starts = self._gather(blobs)
        before = ranks.cumsum(0) - ranks
        moved = [
            _moved(blob.pieces, scale, start, blob.table, table, ahead)
            for (blob, scale), start, ahead in zip(parts, starts, before, strict=True)
        ]
        numbers, scales = (torch.cat(column) for column in zip(*moved, strict=True))
        longest = max(blob.pieces.longest for blob in blobs)
        return Blob(
            digest=adapter.digest,
            label=adapter.label,
            rank=int(together.max()),
            memory=extent,
            data=data,
            pieces=Pieces(self._pinned(numbers), self._pinned(scales), longest),
            table=self._pinned(table),
            num_elements=num_elements,
        )

    def _gather(self, blobs: Sequence[Blob]) -> tuple[Extent, torch.Tensor, list[int]]:
        """All the data in one stretch of memory, and where each blob's begins in it."""
        kinds = {blob.data.dtype for blob in blobs}
        dtype = kinds.pop() if len(kinds) == 1 else CONVERTED
        sizes = [blob.data.numel() for blob in blobs]
        extent = self.memory.allocate(sum(sizes) * dtype.itemsize)
        data = extent.data.view(dtype)
        for rows, blob in zip(torch.split(data, sizes), blobs, strict=True):
            rows.copy_(blob.data)
        return extent, data, [sum(sizes[:index]) for index in range(len(sizes))]

    def _pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self.memory.pin else tensor


def _moved(
    pieces: Pieces,
    scale: float,
    start: int,
    own: torch.Tensor,
    table: torch.Tensor,
    ahead: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One blob's pieces (numbers and scales) with its data from `start` on, in a shared slot.

    own: the blob's table; table: the slot's. ahead: [sites, parts], the ranks before its own.
    Pieces come in the order of the table's entries, A and B of each.
    """
    adapted = own[..., RANK] > 0
    places, ahead = table[adapted], ahead[adapted]
    numbers, scales = pieces.numbers.clone(), pieces.scales.clone()
    numbers[:, FROM] += start
    numbers[0::2, TO] = places[:, SHRINK] + ahead * numbers[0::2, LENGTH]
    numbers[1::2, TO] = places[:, EXPAND] + ahead * numbers[1::2, LENGTH]
    scales[numbers[:, IS_EXPAND] == 1] *= scale
    return numbers, scales
