"""Each row's own way to choose a token, as device tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

LOWEST_TEMPERATURE = 1e-5  # below it a row is greedy
NO_TOKEN = -1
"""Chosen where logits are not finite."""


@dataclass(frozen=True)
class RowSampling:
    """Sampling parameters by row, each [rows].

    temperature fp32 (below LOWEST_TEMPERATURE: greedy) · top_k int32 (0: off) · top_p fp32 (1: off)
    · min_p fp32 (0: off) · seeds int64. A row's noise depends on its seed, its position and the
    token id alone, so it draws the same in any company.
    """

    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    seeds: torch.Tensor
