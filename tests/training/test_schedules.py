"""The learning rate by step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from training.schedules import warmup_decay, warmup_decay_factor


@pytest.mark.parametrize(("warmup", "total"), [(1, 4), (2, 7), (10, 30), (30, 12)])
def test_every_step_has_deepspeeds_own_rate(warmup: int, total: int) -> None:
    """Also where the warm-up is shorter than DeepSpeed allows, or longer than the run."""
    from deepspeed.runtime.lr_schedules import WarmupDecayLR

    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = WarmupDecayLR(theirs, total, warmup_max_lr=0.3, warmup_num_steps=warmup)
    ours = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    rates = rates_of(theirs, schedule, total + 3)
    assert rates_of(ours, warmup_decay(ours, warmup=warmup, total=total), total + 3) == (
        pytest.approx(rates, rel=1e-12)
    )
    assert rates[0] == rates[1] == 0
    assert 0 < max(rates) <= 0.3


def test_the_rate_rises_with_the_logarithm_and_falls_in_a_line_to_zero() -> None:
    factors = [warmup_decay_factor(step, warmup=10, total=30) for step in range(32)]
    assert factors[:2] == [0, 0]
    assert factors[5] == pytest.approx(math.log(5) / math.log(10))
    assert factors[10:12] == pytest.approx([1, 1])
    assert factors[21] == pytest.approx(0.5)
    assert factors[31] == 0


def rates_of(optimizer: torch.optim.Optimizer, schedule: Any, steps: int) -> list[float]:
    """The rate with which each step is taken."""
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return rates
