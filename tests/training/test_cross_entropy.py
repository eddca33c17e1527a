"""Chunked cross entropy is cross entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from training.cross_entropy import linear_cross_entropy
from training.samples import IGNORED


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("trains_weight", [False, True])
def test_loss_and_gradients_are_those_of_all_logits_at_once(
    chunk: int, trains_weight: bool
) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(11, 8, requires_grad=True)
    weight = torch.randn(20, 8, requires_grad=trains_weight)
    labels = torch.randint(0, 20, (11,))
    labels[[0, 4, 10]] = IGNORED
    expected = F.cross_entropy(F.linear(hidden, weight), labels, reduction="sum")
    (3 * expected).backward()
    wanted = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    loss = linear_cross_entropy(hidden, weight, labels, chunk=chunk)
    (3 * loss).backward()
    torch.testing.assert_close(loss, expected)
    assert hidden.grad is not None
    assert wanted[0] is not None
    torch.testing.assert_close(hidden.grad, wanted[0])
    if trains_weight:
        assert weight.grad is not None
        assert wanted[1] is not None
        torch.testing.assert_close(weight.grad, wanted[1])
    else:
        assert weight.grad is None


def test_nothing_to_learn_is_zero() -> None:
    hidden = torch.randn(2, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, torch.randn(5, 4), torch.full((2,), IGNORED))
    loss.backward()
    assert loss == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()
