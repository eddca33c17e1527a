"""Learning rates that transformers has no schedule for."""

from __future__ import annotations

import math

import torch
from torch.optim.lr_scheduler import LambdaLR


def warmup_decay(optimizer: torch.optim.Optimizer, *, warmup: int, total: int) -> LambdaLR:
    """DeepSpeed's WarmupDecayLR from and to zero, without DeepSpeed."""
    return LambdaLR(optimizer, lambda step: warmup_decay_factor(step, warmup=warmup, total=total))


def warmup_decay_factor(step: int, *, warmup: int, total: int) -> float:
    """The share of the full rate before step `step` is taken, counted from 0.

    Up with log(step + 1) / log(warmup), at least two steps of it; then down in a straight line to
    0 at `total` (DeepSpeed, runtime/lr_schedules.py, WarmupDecayLR with its default "log"). Under
    DeepSpeed itself the same rates come a step later: it counts from its first `step()`.
    """
    warmup = max(2, warmup)
    if step < warmup:
        return math.log(step + 1) / math.log(warmup)
    return max(0.0, (total - step) / max(1.0, total - warmup))
