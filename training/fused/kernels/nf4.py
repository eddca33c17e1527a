"""NF4 with nested scales to 16 bits in one pass, the same bits as bitsandbytes' three."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_BYTES = 1024  # of codes in one program: two weights each


def dequantize(codes: torch.Tensor, state: Any) -> torch.Tensor:
    """`codes` and their `QuantState` → the weight, `state.shape` in `state.dtype`.

    A weight is its code's value times its block's scale, which with double quantization is an
    8-bit code times a scale of its own, plus the mean (QLoRA, arXiv 2305.14314, section 3); each
    of these is rounded in fp32 where bitsandbytes rounds it.
    """
    codes = codes.data.view(-1)
    out = torch.empty(state.shape, dtype=state.dtype, device=codes.device)
    nested = state.nested
    second = state.state2
    scale_codes, scales, mean = (second.code, second.absmax, state.offset) if nested else (
        state.absmax, state.absmax, state.absmax
    )  # fmt: skip
    _dequantize_kernel[(triton.cdiv(codes.numel(), _BYTES),)](
        out,
        codes,
        state.code,
        state.absmax,
        scale_codes,
        scales,
        mean,
        codes.numel(),
        nested=nested,
        block=state.blocksize // 2,
        superblock=second.blocksize if nested else 1,
        size=_BYTES,
        enable_fp_fusion=False,  # a fused multiply-add would round once less
    )
    return out


@triton.jit
def _dequantize_kernel(
    out,
    codes,
    values,
    absmax,
    scale_codes,
    scales,
    mean,
    num_bytes,
    nested: tl.constexpr,
    block: tl.constexpr,
    superblock: tl.constexpr,
    size: tl.constexpr,
):
    start = tl.program_id(0) * size
    place = start + tl.arange(0, size)
    inside = place < num_bytes
    pair = tl.load(codes + place, mask=inside, other=0).to(tl.int32)
    scale = tl.load(absmax + place // block, mask=inside, other=0)
    if nested:
        coarse = tl.load(scales + place // (block * superblock), mask=inside, other=0.0)
        scale = tl.load(scale_codes + scale.to(tl.int32)) * coarse
        scale = scale + tl.load(mean)
    high = tl.load(values + (pair >> 4)) * scale
    low = tl.load(values + (pair & 15)) * scale
    both = tl.interleave(high, low)
    column = 2 * start + tl.arange(0, 2 * size)
    tl.store(out + column, both.to(out.dtype.element_ty), mask=column < 2 * num_bytes)
