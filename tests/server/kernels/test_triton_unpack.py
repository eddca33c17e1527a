"""An adapter's way from its file's order into its slot's, against the twin."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if torch.cuda.is_available():
    pytest.skip("tests/gpu holds the kernels on the device", allow_module_level=True)

from server.kernels.triton import unpack
from server.kernels.triton.pieces import Pieces
from server.kernels.triton.twins import unpack as twin
from tests.support.kernel_cases import normal

POISON = 99.0


@pytest.mark.parametrize("stored_as", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rank", "into", "out"), [(4, 64, 96), (3, 100, 5000), (16, 8, 8)])
def test_it_equals_the_twin_and_leaves_the_rest_alone(
    stored_as: torch.dtype, rank: int, into: int, out: int
) -> None:
    stored = normal(7 + rank * (into + out), dtype=stored_as)
    a, b = 16, 32 + rank * into
    numbers = [[7 + rank * out, a, rank, into, 0], [7, b, rank, out, 1]]
    pieces = Pieces(torch.tensor(numbers), torch.tensor([1.0, 0.3]), rank * max(into, out))
    slots = [torch.full((b + rank * out + 9,), POISON, dtype=torch.float16) for _ in range(2)]
    unpack.unpack(slots[0], stored, pieces)
    twin.unpack(slots[1], stored, pieces)
    assert torch.equal(slots[0], slots[1])
    assert torch.equal(slots[0][-9:], torch.full((9,), POISON, dtype=torch.float16))
