"""The same weights twice: in 4 bits for few rows, dequantized for many."""

from __future__ import annotations

import torch

from server.kernels.cuda.shadow import SHADOW_FROM, ShadowedLinear
from server.kernels.linear import DenseLinear


def test_many_rows_take_the_copy_and_few_the_codes() -> None:
    packed, copy = DenseLinear(torch.ones(3, 4)), DenseLinear(2 * torch.ones(3, 4))
    linear = ShadowedLinear(packed, copy)
    assert linear(torch.ones(SHADOW_FROM - 1, 4)).unique().tolist() == [4.0]
    assert linear(torch.ones(SHADOW_FROM, 4)).unique().tolist() == [8.0]
    assert (linear.out_features, linear.nbytes) == (3, 2 * 3 * 4 * 4)
