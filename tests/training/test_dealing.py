"""A step's rows are the same however many processes share them, and each gets as many tokens."""

from __future__ import annotations

import random

import pytest
import torch

from training.dealing import DealtSampler
from training.sampler import LengthGroupedSampler

ROWS, PER_PROCESS = 100, 6


def lengths() -> list[int]:
    source = random.Random(7)
    return [round(400 * source.lognormvariate(0, 0.7)) for _ in range(ROWS)]


def order_of(grouped: bool, processes: int) -> LengthGroupedSampler:
    size = PER_PROCESS * processes
    return LengthGroupedSampler(lengths(), batch_size=size, seed=3, grouped=grouped)


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_have_the_same_rows_in_a_step_and_near_the_same_tokens(
    grouped: bool, processes: int
) -> None:
    order, sizes = order_of(grouped, processes), lengths()
    dealt = list(DealtSampler(order, sizes, per_process=PER_PROCESS, processes=processes))
    plain, step = list(order), PER_PROCESS * processes
    assert sorted(dealt) == list(range(ROWS))
    whole = ROWS - ROWS % step
    assert dealt[whole:] == plain[whole:]
    for start in range(0, whole, step):
        rows = dealt[start : start + step]
        assert sorted(rows) == sorted(plain[start : start + step])
        hands = [rows[at : at + PER_PROCESS] for at in range(0, step, PER_PROCESS)]
        tokens = [sum(sizes[row] for row in hand) for hand in hands]
        assert max(tokens) <= max(1.1 * sum(tokens) / processes, 1.1 * max(sizes))


def test_equal_rows_are_dealt_in_their_order() -> None:
    order = torch.utils.data.SequentialSampler(range(8))
    dealt = DealtSampler(order, [5] * 8, per_process=2, processes=2)
    assert list(dealt) == [0, 2, 1, 3, 4, 6, 5, 7]
    assert len(dealt) == 8


def test_an_epoch_has_its_own_order() -> None:
    dealt = DealtSampler(order_of(True, 2), lengths(), per_process=PER_PROCESS, processes=2)
    first = list(dealt)
    dealt.set_epoch(1)
    assert list(dealt) != first
    dealt.set_epoch(0)
    assert list(dealt) == first
