"""NF4 weights with their scales as bitsandbytes nests them: 8-bit, in groups of 256 blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

BLOCK = 64  # weights that share a scale
GROUP = 256  # blocks that share a second scale
NF4_TABLE = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


@dataclass(frozen=True)
class NestedNf4Weight:
    """One NF4 weight [out_features, in_features] as bitsandbytes quantized it, or several stacked.

    codes: [out · in / 2] uint8, two weights a byte, the first in the high half. scales: [blocks]
    uint8, one per 64 weights. scale_table: [256] fp32, what an 8-bit scale means. groups:
    [groups, 2] fp32, (absmax2, offset) of every 2 ** group_shift blocks; weights stacked on one
    another keep their own. 4.13 bits a weight, where decoded fp32 scales make it 4.5.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    scale_table: torch.Tensor
    groups: torch.Tensor
    group_shift: int
    out_features: int
    in_features: int

    @classmethod
    def of(cls, codes: torch.Tensor, state: Any) -> NestedNf4Weight:
        """From bitsandbytes' codes and `QuantState`.

        Raises ValueError for anything but NF4 in blocks of 64 with double quantization.
        """
        if state.quant_type != "nf4" or state.blocksize != BLOCK or not state.nested:
            raise ValueError("only NF4 in blocks of 64 with double quantization has nested scales")
        if state.state2.blocksize != GROUP or state.shape[1] % BLOCK:
            raise ValueError("rows must be whole blocks of 64, and their scales in groups of 256")
        absmax = state.state2.absmax.float()
        offset = state.offset.to(absmax).expand_as(absmax)
        return cls(
            codes=codes.reshape(-1),
            scales=state.absmax.reshape(-1),
            scale_table=state.state2.code.float(),
            groups=torch.stack((absmax, offset), dim=1),
            group_shift=GROUP.bit_length() - 1,
            out_features=state.shape[0],
            in_features=state.shape[1],
        )

    def decoded_scales(self) -> torch.Tensor:
        """[blocks] fp32: rn(rn(table[scale] · absmax2) + offset), bitsandbytes' own rounding."""
        block = torch.arange(len(self.scales), device=self.scales.device)
        absmax, offset = self.groups[block >> self.group_shift].unbind(1)
        return self.scale_table[self.scales.long()].mul_(absmax).add_(offset)

    def dequantize(self, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        """[out_features, in_features]: what bitsandbytes' `dequantize_4bit` gives."""
        table = torch.tensor(NF4_TABLE, device=self.codes.device)
        values = table[torch.stack((self.codes >> 4, self.codes & 15), dim=-1).long()]
        scaled = values.view(-1, BLOCK).mul_(self.decoded_scales()[:, None])
        return scaled.to(dtype).view(self.out_features, self.in_features)

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes + self.groups.nbytes


def multiply(x: torch.Tensor, weight: NestedNf4Weight) -> torch.Tensor:
    """`x` [tokens, in] times the weight in x's dtype, summed in fp32 → [tokens, out] likewise.

    What every NF4 GEMM here computes; they differ in the order of the sum alone.
    """
    return (x.float() @ weight.dequantize(x.dtype).float().T).to(x.dtype)


def merge_nested(weights: Sequence[NestedNf4Weight]) -> NestedNf4Weight:
    """Stack weights of one input (q, k, v; gate, up) into one, losslessly.

    Each keeps its own second scales: groups are split where a weight ends inside one.
    """
    first = weights[0]
    if any(not torch.equal(w.scale_table, first.scale_table) for w in weights):
        raise ValueError("weights to merge must share one table of 8-bit scales")
    ends = accumulate(len(w.scales) for w in weights[:-1])
    size = math.gcd(2 ** min(w.group_shift for w in weights), *ends)
    return NestedNf4Weight(
        codes=torch.cat([w.codes for w in weights]),
        scales=torch.cat([w.scales for w in weights]),
        scale_table=first.scale_table,
        groups=torch.cat([_regrouped(w, size) for w in weights]),
        group_shift=size.bit_length() - 1,
        out_features=sum(w.out_features for w in weights),
        in_features=first.in_features,
    )


def _regrouped(weight: NestedNf4Weight, size: int) -> torch.Tensor:
    """The weight's groups, each repeated so that it covers `size` blocks."""
    repeated = weight.groups.repeat_interleave(2**weight.group_shift // size, dim=0)
    return repeated[: -(-len(weight.scales) // size)]
