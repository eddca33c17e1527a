"""Take out of logits what grammars do not allow: the definition."""

from __future__ import annotations

import torch


def mask_logits(logits: torch.Tensor, masks: torch.Tensor, rows: torch.Tensor) -> None:
    """Set to -inf, in place, what the masks leave out of some rows of `logits` [all, vocab].

    masks: [rows, ceil(vocab / 32)] int32, bit `t % 32` of word `t // 32` for token t. rows:
    [rows] int64, which row each mask is of.
    """
    token = torch.arange(logits.shape[1], device=logits.device)
    allowed = (masks[:, token // 32] >> (token % 32)) & 1  # [rows, vocab]
    logits[rows] = logits[rows].masked_fill(allowed == 0, -torch.inf)
