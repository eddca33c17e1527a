"""Bring an adapter's factors from the order of its file into that of its slot, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.triton.pieces import Pieces

BLOCK = 4096  # elements of one program


def unpack(slot: torch.Tensor, stored: torch.Tensor, pieces: Pieces) -> None:
    """Write every piece of `stored` [elements], in the file's dtype, into `slot` [elements].

    A stays as it is, [rank, length]. B, [length, rank] in the file, is turned and scaled: in fp32,
    rounded once.
    """
    grid = (triton.cdiv(pieces.longest, BLOCK), len(pieces.scales))
    _unpack_kernel[grid](slot, stored, pieces.numbers, pieces.scales, block=BLOCK, num_warps=8)


@triton.jit
def _unpack_kernel(slot, stored, numbers, scales, block: tl.constexpr):
    piece = numbers + tl.program_id(1) * 5
    rank, length = tl.load(piece + 2), tl.load(piece + 3)
    element = tl.program_id(0) * block + tl.arange(0, block).to(tl.int64)
    inside = element < rank * length
    turned = tl.load(piece + 4) != 0
    source = tl.where(turned, element % length * rank + element // length, element)
    value = tl.load(stored + tl.load(piece) + source, mask=inside, other=0.0).to(tl.float32)
    value = tl.where(turned, value * tl.load(scales + tl.program_id(1)), value)
    tl.store(slot + tl.load(piece + 1) + element, value.to(slot.dtype.element_ty), mask=inside)
