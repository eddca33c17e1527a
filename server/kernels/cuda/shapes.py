"""How a product is cut into tiles: which kernel, with which constants, for how many tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from server.kernels.cuda.packing import BAND

Mode = Literal["exact", "fast", "batch-invariant"]
MAX_TOKENS = 64  # rows that one launch of any kernel multiplies
WIDE_TOKENS = 128  # rows that the widest warpgroup product multiplies
MMA_ROWS = 128  # output features of a tile in every MmaShape
WARP = 32


@dataclass(frozen=True)
class MmaShape:
    """Constants of nf4_mma.cu: 8-token columns, and how a block's warps divide a tile of rows."""

    column_tiles: int
    row_tiles: int
    row_warps: int
    depth_warps: int
    depth_turns: int = 1

    @property
    def rows(self) -> int:
        return self.row_warps * self.row_tiles * 16

    @property
    def step_blocks(self) -> int:
        return self.depth_warps * self.depth_turns

    @property
    def finishers(self) -> int:
        """Warps that put together what blocks share; for more tokens the consumers do it."""
        return 2 if self.column_tiles == 1 else 0

    @property
    def beside(self) -> int:
        """Threads of other kernels that are to find registers beside a block."""
        return 9 * WARP if self.column_tiles == 1 else 0

    @property
    def threads(self) -> int:
        """The consumers', one warp that copies, and the finishers'."""
        return (self.row_warps * self.depth_warps + 1 + self.finishers) * WARP

    def constants(self, shared_bytes: int, *, exact: bool) -> Mapping[str, int]:
        return {
            "NF4_COLUMN_TILES": self.column_tiles,
            "NF4_ROW_TILES": self.row_tiles,
            "NF4_ROW_WARPS": self.row_warps,
            "NF4_DEPTH_WARPS": self.depth_warps,
            "NF4_DEPTH_TURNS": self.depth_turns,
            "NF4_FINISHERS": self.finishers,
            "NF4_BESIDE": self.beside,
            "NF4_SHARED": shared_bytes,
            "NF4_EXACT": int(exact),
        }


@dataclass(frozen=True)
class WgmmaShape:
    """Constants of nf4_wgmma.cu: tokens (8 to 64) and bands of 128 rows in a tile."""

    tokens: int
    bands: int

    @property
    def rows(self) -> int:
        return self.bands * BAND

    @property
    def threads(self) -> int:
        return 9 * WARP

    def constants(self, shared_bytes: int, *, exact: bool) -> Mapping[str, int]:
        return {
            "NF4_TOKENS": self.tokens,
            "NF4_BANDS": self.bands,
            "NF4_SHARED": shared_bytes,
            "NF4_EXACT": int(exact),
        }


# Bytes of shared memory per block: sm_86 and sm_89 have 99 KiB, sm_80 163, sm_90 227; the decode
# table takes 64 of them.
SMALL = 128 * 1024
LARGE = 200 * 1024
COLUMN_TILES = (1, 2, 4, 8)
WGMMA_TOKENS = (8, 16, 32, 64)
MMA_SMALL = {tiles: MmaShape(tiles, 2, 4, 1) for tiles in COLUMN_TILES}
MMA_MEDIUM = {tiles: MmaShape(tiles, 2, 4, 2) for tiles in COLUMN_TILES}
MMA_LARGE = {tiles: MmaShape(tiles, 2, 4, 2, 2) for tiles in COLUMN_TILES}
# Up to 16 tokens leave registers for 64 rows a warp, and then depth to more warps.
MMA_MEDIUM_FEW = {tiles: MmaShape(tiles, 4, 2, 4) for tiles in (1, 2)}
MMA_LARGE_FEW = {tiles: MmaShape(tiles, 4, 2, 4, 2) for tiles in (1, 2)}


def mma_shapes(shared_bytes: int, mode: Mode) -> Mapping[int, MmaShape]:
    """The shape for each number of column tiles. With batch-invariant, all sum in one order."""
    if shared_bytes < SMALL:
        return MMA_SMALL
    alike = MMA_LARGE if shared_bytes >= LARGE else MMA_MEDIUM
    if mode == "batch-invariant":
        return alike
    return {**alike, **(MMA_LARGE_FEW if shared_bytes >= LARGE else MMA_MEDIUM_FEW)}


def column_tiles(tokens: int) -> int:
    """The fewest column tiles of 8 that hold `tokens`."""
    return next(tiles for tiles in COLUMN_TILES if tiles * 8 >= tokens)


def wgmma_tokens(tokens: int) -> int:
    """The narrowest warpgroup product that holds `tokens`."""
    return next(width for width in WGMMA_TOKENS if width >= tokens)
