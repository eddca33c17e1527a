"""The order in which the GEMM reads an NF4 weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from server.kernels.cuda.nested import BLOCK, NestedNf4Weight

BAND = 128  # rows that are stored together


@dataclass(frozen=True)
class PackedNf4:
    """A `NestedNf4Weight` reordered so that a warp's loads are contiguous; nothing is rounded.

    Rows are padded to whole bands of 128. codes: [bands, in / 64, 4096] uint8, tile by tile;
    scales: [bands, in / 64, 128] uint8. A tile is eight slabs of 16 rows, a slab 32 lanes of 16
    bytes. Lane 4g + t holds rows g and g + 8, of each the bytes of weights 2t + 8i: the operand
    layout of mma.m16n8k16 and of wgmma alike. groups, group_shift, scale_table as in the nested
    weight.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    scale_table: torch.Tensor
    groups: torch.Tensor
    group_shift: int
    out_features: int
    in_features: int

    @property
    def blocks(self) -> int:
        """Blocks of 64 weights in a row."""
        return self.in_features // BLOCK

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes + self.groups.nbytes


def pack(weight: NestedNf4Weight) -> PackedNf4:
    """Reorder a weight. Raises ValueError if `out_features` is no multiple of 8."""
    if weight.out_features % 8:
        raise ValueError(f"out_features must be a multiple of 8, not {weight.out_features}")
    blocks = weight.in_features // BLOCK
    missing = -weight.out_features % BAND
    codes = pad(weight.codes.view(weight.out_features, -1), (0, 0, 0, missing))
    scales = pad(weight.scales.view(weight.out_features, -1), (0, 0, 0, missing))
    # [bands, slabs, row half, g, blocks, 8-weight runs of a row, t]
    lanes = codes.view(-1, 8, 2, 8, blocks, 8, 4).permute(0, 4, 1, 3, 6, 2, 5)
    return PackedNf4(
        codes=lanes.reshape(-1, blocks, BAND * BLOCK // 2),
        scales=scales.view(-1, BAND, blocks).transpose(1, 2).contiguous(),
        scale_table=weight.scale_table.contiguous(),
        groups=weight.groups.contiguous(),
        group_shift=weight.group_shift,
        out_features=weight.out_features,
        in_features=weight.in_features,
    )
