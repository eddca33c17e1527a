"""Grammars' masks on the device against their twin, under Triton's interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if torch.cuda.is_available():
    pytest.skip("tests/gpu holds the kernels on the device", allow_module_level=True)

from server.kernels.sampling import keep_allowed
from server.kernels.triton import masking
from server.kernels.triton.twins import masking as twin
from tests.support.kernel_cases import normal


def random_masks(rows: int, vocab: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(vocab)
    words = -(-vocab // 32)
    return torch.randint(-(2**31), 2**31, (rows, words), generator=generator, dtype=torch.int32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [31, 320, 2500])
def test_masks_equal_the_twin_and_the_hosts(dtype: torch.dtype, vocab: int) -> None:
    logits = normal(5, vocab, dtype=dtype, std=3.0)
    masks, rows = random_masks(3, vocab), torch.tensor([4, 0, 2])
    ours, theirs = logits.clone(), logits.clone()
    masking.mask_logits(ours, masks, rows)
    twin.mask_logits(theirs, masks, rows)
    assert ours.equal(theirs)
    assert ours[[1, 3]].equal(logits[[1, 3]])
    for row, mask in zip(rows.tolist(), masks.numpy().astype(np.int32), strict=True):
        assert ours[row].equal(keep_allowed(logits[row], mask))
