"""Take out of logits what grammars do not allow."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 1024


def mask_logits(logits: torch.Tensor, masks: torch.Tensor, rows: torch.Tensor) -> None:
    """Set to -inf, in place, what the masks leave out of some rows of `logits` [all, vocab].

    masks: [rows, ceil(vocab / 32)] int32, bit `t % 32` of word `t // 32` for token t. rows:
    [rows] int64, which row each mask is of.
    """
    vocab = logits.shape[1]
    grid = (len(rows), triton.cdiv(vocab, BLOCK))
    _mask_kernel[grid](logits, masks, rows, logits.stride(0), masks.stride(0), vocab, block=BLOCK)


@triton.jit
def _mask_kernel(logits, masks, rows, row_stride, mask_stride, vocab, block: tl.constexpr):
    index = tl.program_id(0).to(tl.int64)
    token = tl.program_id(1) * block + tl.arange(0, block)
    inside = token < vocab
    words = tl.load(masks + index * mask_stride + token // 32, mask=inside, other=-1)
    forbidden = ((words >> (token % 32)) & 1) == 0
    row = tl.load(rows + index)
    tl.store(logits + row * row_stride + token, float("-inf"), mask=inside & forbidden)
