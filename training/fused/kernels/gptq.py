"""Packed GPTQ weights to 16 bits in one pass; `GptqLinear.dense` is the twin."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from training.gptq import GptqLinear

_INPUTS, _OUTPUTS = 32, 128  # of the weight's elements in one program


def dequantize(layer: GptqLinear, dtype: torch.dtype) -> torch.Tensor:
    """The layer's weight [out, in] in `dtype`: (code - zero point) * scale, rounded once.

    Written input by input, as the codes lie, so what comes back is a transposed view; a matrix
    product takes either.
    """
    shape = (layer.in_features, layer.out_features)
    out = torch.empty(shape, dtype=dtype, device=layer.qweight.device)
    grid = (triton.cdiv(shape[0], _INPUTS), triton.cdiv(shape[1], _OUTPUTS))
    _dequantize_kernel[grid](
        out,
        layer.qweight,
        layer.qzeros,
        layer.scales,
        layer.g_idx,
        *shape,
        bits=layer.bits,
        zero_offset=layer.zero_offset,
        inputs=_INPUTS,
        outputs=_OUTPUTS,
    )
    return out.t()


@triton.jit
def _dequantize_kernel(
    out,
    codes,
    zeros,
    scales,
    groups,
    num_inputs,
    num_outputs,
    bits: tl.constexpr,
    zero_offset: tl.constexpr,
    inputs: tl.constexpr,
    outputs: tl.constexpr,
):
    per: tl.constexpr = 32 // bits  # codes in an int32
    mask: tl.constexpr = (1 << bits) - 1
    row = tl.program_id(0) * inputs + tl.arange(0, inputs)[:, None]
    column = tl.program_id(1) * outputs + tl.arange(0, outputs)[None, :]
    inside = (row < num_inputs) & (column < num_outputs)
    group = tl.load(groups + row, mask=row < num_inputs, other=0)
    code = tl.load(codes + row // per * num_outputs + column, mask=inside, other=0)
    code = (code >> (row % per * bits)) & mask
    words = num_outputs // per  # int32s in a row of zero points
    zero = tl.load(zeros + group * words + column // per, mask=inside, other=0)
    # A zero point of 0, stored less one, has wrapped around.
    zero = ((zero >> (column % per * bits)) + zero_offset) & mask
    scale = tl.load(scales + group * num_outputs + column, mask=inside, other=0.0)
    weight = (code - zero).to(tl.float32) * scale.to(tl.float32)
    place = out + row.to(tl.int64) * num_outputs + column
    tl.store(place, weight.to(out.dtype.element_ty), mask=inside)
