"""Which rows of a batch share an adapter, in tiles of a fixed size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

DECODE_ROWS = 16  # the fewest rows that a tensor core multiplies
PROMPT_ROWS = 64


@dataclass(frozen=True)
class LoraTiles:
    """Tiles of rows with one adapter each; unused tiles stand last.

    slots: [tiles] int32, -1 where a tile is unused. rows: [tiles, tile_rows] int32, row numbers of
    the batch, -1 where a tile is not full. Rows of the bare base are in no tile, or, of prompts, in
    tiles of slot -1. A bucket of n rows never needs more than n tiles.
    """

    slots: torch.Tensor
    rows: torch.Tensor

    @property
    def tile_rows(self) -> int:
        return self.rows.shape[1]

    @classmethod
    def empty(cls, tiles: int, tile_rows: int, device: torch.device | str = "cpu") -> LoraTiles:
        """Static buffers in which every tile is unused."""
        return cls(
            torch.full((tiles,), -1, dtype=torch.int32, device=device),
            torch.full((tiles, tile_rows), -1, dtype=torch.int32, device=device),
        )

    @classmethod
    def of(
        cls, row_slots: Sequence[int | None], tile_rows: int, device: torch.device | str = "cpu"
    ) -> LoraTiles:
        """Tiles for rows with these slots, None for the bare base; as many as are needed."""
        slots, rows = group_rows(row_slots, tile_rows)
        return cls(
            torch.tensor(slots, dtype=torch.int32, device=device),
            torch.tensor(rows, dtype=torch.int32, device=device).view(len(slots), tile_rows),
        )


def group_rows(
    row_slots: Sequence[int | None], tile_rows: int
) -> tuple[list[int], list[list[int]]]:
    """The slot of each tile, and its rows padded with -1: what `LoraTiles` holds, on the host."""
    members: dict[int, list[int]] = defaultdict(list)
    for row, slot in enumerate(row_slots):
        if slot is not None:
            members[slot].append(row)
    slots, rows = [], []
    for slot, of_slot in members.items():
        for start in range(0, len(of_slot), tile_rows):
            tile = of_slot[start : start + tile_rows]
            slots.append(slot)
            rows.append(tile + [-1] * (tile_rows - len(tile)))
    return slots, rows


def group_runs(
    runs: Iterable[tuple[int, int]], tile_rows: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`group_rows` of many rows that stand together: each run's slot, and how many rows it has."""
    members: dict[int, list[NDArray[np.int32]]] = defaultdict(list)
    end = 0
    for slot, count in runs:
        members[slot].append(np.arange(end, end + count, dtype=np.int32))
        end += count
    slots, tiles = [], []
    for slot, pieces in members.items():
        rows = np.concatenate(pieces)
        num_tiles = -(-len(rows) // tile_rows)
        slots += [slot] * num_tiles
        padded = np.full(num_tiles * tile_rows, -1, dtype=np.int32)  # np.pad takes 50 µs
        padded[: len(rows)] = rows
        tiles.append(padded)
    return np.array(slots, dtype=np.int32), np.concatenate(tiles).reshape(-1, tile_rows)
