"""The tokens that a decode step starts with, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 128


def known_tokens(token_ids: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """What `token_ids` [rows] int64 stand for: a token, or `~r` for `chosen[r]`; at least 0."""
    tokens = torch.empty_like(token_ids)
    rows = len(token_ids)
    grid = (triton.cdiv(rows, BLOCK),)
    _known_tokens_kernel[grid](tokens, token_ids, chosen, rows, block=BLOCK, num_warps=1)
    return tokens


@triton.jit(do_not_specialize=["rows"])  # or it would be compiled three times
def _known_tokens_kernel(tokens, token_ids, chosen, rows, block: tl.constexpr):
    row = tl.program_id(0) * block + tl.arange(0, block)
    inside = row < rows
    given = tl.load(token_ids + row, mask=inside, other=0)
    earlier = tl.load(chosen + tl.where(given < 0, -1 - given, 0), mask=given < 0, other=0)
    tl.store(tokens + row, tl.maximum(tl.where(given < 0, earlier, given), 0), mask=inside)
