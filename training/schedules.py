"""Learning rates that transformers has no schedule for."""

from __future__ import annotations

import math

import torch
from torch.optim.lr_scheduler import LambdaLR


def warmup_decay(optimizer: torch.optim.Optimizer, *, warmup: int, total: int) -> LambdaLR:
    """DeepSpeed's WarmupDecayLR from and to zero, without DeepSpeed."""
    return LambdaLR(optimizer, lambda step: warmup_decay_factor(step, warmup=warmup, total=total))


def warmup_decay_factor(step: int, *, warmup: int, total: int) -> float:
    """The share of the full rate with which step `step` is taken, counted from 0.

    Up with log(n) / log(warmup), at least two steps of it; then down in a straight line to 0 at
    `total` (DeepSpeed, runtime/lr_schedules.py, WarmupDecayLR with its default "log"). DeepSpeed's
    own counter starts after the first step, so n is 1 twice: the first two steps have a rate of 0.
    """
    warmup, counted = max(2, warmup), max(0, step - 1)
    if counted < warmup:
        return math.log(counted + 1) / math.log(warmup)
    return max(0.0, (total - counted) / max(1.0, total - warmup))
