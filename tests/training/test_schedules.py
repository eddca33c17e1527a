"""The learning rate by step."""

from __future__ import annotations

import math

import pytest
import torch

from training.schedules import warmup_decay, warmup_decay_factor


def test_the_rate_rises_with_the_logarithm_and_falls_in_a_line_to_zero() -> None:
    factors = [warmup_decay_factor(step, warmup=10, total=30) for step in range(31)]
    assert factors[0] == 0
    assert factors[4] == pytest.approx(math.log(5) / math.log(10))
    assert factors[9] == pytest.approx(1)
    assert factors[10] == 1
    assert factors[20] == pytest.approx(0.5)
    assert factors[30] == 0
    assert warmup_decay_factor(1, warmup=0, total=4) == pytest.approx(1)  # at least two steps


def test_an_optimizer_gets_it() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_decay(optimizer, warmup=2, total=4)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0, 2, 2, 1, 0])
