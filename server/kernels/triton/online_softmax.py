"""Attention's running sum over tiles of paged keys and values, shared by decoding and prompts.

The online softmax of Dao et al., arXiv 2205.14135. Scores are in units of log 2.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def absorb(
    highest,
    total,
    gathered,
    asked,
    head_at,
    kind_stride,
    block_stride,
    offset_stride,
    table,
    token,
    oldest,
    end,
    position,
    window,
    key_scale,
    is_lane,
    block_size: tl.constexpr,
    is_causal: tl.constexpr,
):
    """Take the tokens `token` [keys] of [oldest, end) into the running (highest, total, gathered).

    asked: [queries, lanes]; head_at: one KV head's keys in the cache; table: the sequence's blocks.
    With is_causal each query sees only tokens up to its own position, and within its window.
    Tokens outside are not read, so whatever lies there counts nothing.
    """
    held = (token >= oldest) & (token < end)
    block = tl.load(table + token // block_size, mask=held, other=0).to(tl.int64)
    token_at = block * block_stride + (token % block_size) * offset_stride
    reads = held[:, None] & is_lane[None, :]
    key = tl.load(head_at + token_at[:, None], mask=reads, other=0.0)
    value = tl.load(head_at + kind_stride + token_at[:, None], mask=reads, other=0.0)
    scores = tl.dot(asked, tl.trans(key.to(asked.dtype)), input_precision="ieee") * key_scale
    visible = held[None, :]
    if is_causal:
        since = tl.where(window > 0, position - window, -1)
        visible = visible & (token[None, :] <= position[:, None])
        visible = visible & (token[None, :] > since[:, None])
    scores = tl.where(visible, scores, float("-inf"))
    risen = tl.maximum(highest, tl.max(scores, 1))
    anchor = tl.where(risen == float("-inf"), 0.0, risen)  # nothing seen yet
    kept = tl.exp2(highest - anchor)
    share = tl.exp2(scores - anchor[:, None])
    total = total * kept + tl.sum(share, 1)
    gathered = tl.dot(
        share.to(asked.dtype),
        value.to(asked.dtype),
        gathered * kept[:, None],
        input_precision="ieee",
    )
    return risen, total, gathered
