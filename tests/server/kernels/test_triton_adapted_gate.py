"""Prompts' gated activation behind LoRA against its twin, under Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if torch.cuda.is_available():
    pytest.skip("tests/gpu holds the kernels on the device", allow_module_level=True)

from server.kernels.triton import adapted_gate
from server.kernels.triton.tiles import PROMPT_ROWS, LoraTiles
from server.kernels.triton.twins import adapted_gate as twin
from tests.support.kernel_cases import POISON, error, make_site, normal

TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3}
BASE = -1


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("in_features", "intermediate"), [(192, 320), (80, 100)])
def test_equals_the_twin(dtype: torch.dtype, in_features: int, intermediate: int) -> None:
    slots = [1] * 70 + [BASE] * 5 + [0] * 30 + [2] * 3
    ranks = [[4, 4], [40, 5], [16, 0]]
    site = make_site(ranks, in_features, (intermediate, intermediate), dtype=dtype)
    tiles = LoraTiles.of(slots, PROMPT_ROWS)
    gate_up = normal(len(slots), 2 * intermediate, dtype=dtype)
    x = normal(len(slots), in_features, dtype=dtype)
    expected = twin.adapted_silu_mul(gate_up, x, site, tiles)
    assert (
        error(adapted_gate.adapted_silu_mul(gate_up, x, site, tiles), expected) < (TOLERANCE[dtype])
    )


def test_unused_tiles_and_rows_of_no_tile_are_not_looked_at() -> None:
    site = make_site([[4, 4]], 64, (48, 48))
    used = LoraTiles.of([0] * 10, PROMPT_ROWS)
    tiles = LoraTiles.empty(3, PROMPT_ROWS)
    tiles.slots[0], tiles.rows[0] = used.slots[0], used.rows[0]
    gate_up, x = torch.full((12, 96), POISON), torch.full((12, 64), POISON)
    gate_up[:10], x[:10] = normal(10, 96), normal(10, 64)
    result = adapted_gate.adapted_silu_mul(gate_up, x, site, tiles)
    expected = twin.adapted_silu_mul(gate_up[:10], x[:10], site, used)
    assert error(result[:10], expected) < TOLERANCE[torch.float32]
