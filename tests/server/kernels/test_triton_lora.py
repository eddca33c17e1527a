"""Multi-LoRA shrink and expand against its twin, under Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if torch.cuda.is_available():
    pytest.skip("tests/gpu holds the kernels on the device", allow_module_level=True)

from server.kernels.triton import lora
from server.kernels.triton.site import LoraSite
from server.kernels.triton.tiles import DECODE_ROWS, LoraTiles, group_rows, group_runs
from server.kernels.triton.twins import lora as twin
from tests.support.kernel_cases import error, make_site, normal

TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3}
MIXED = [0, 1, None, 1, 0, 2, 2, None, 3, 0]


def both(
    site: LoraSite, tiles: LoraTiles, rows: int, in_features: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(kernel's, twin's) output for random rows; the twin comes first, over the same `y`."""
    x = normal(rows, in_features, dtype=dtype)
    expected = normal(rows, sum(site.widths), dtype=dtype)
    result = expected.clone()
    twin.add_lora(expected, x, site, tiles)
    lora.add_lora(result, x, site, tiles)
    return result, expected


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("in_features", "widths"),
    [(576, (576, 192, 192)), (48, (40,)), (1040, (300, 300)), (640, (64,))],
)
def test_equals_the_twin(dtype: torch.dtype, in_features: int, widths: tuple[int, ...]) -> None:
    parts = len(widths)
    ranks = [[8] * parts, [3] * parts, [40] * parts, [16, *[0] * (parts - 1)]]
    site = make_site(ranks, in_features, widths, dtype=dtype)
    tiles = LoraTiles.of(MIXED, DECODE_ROWS)
    result, expected = both(site, tiles, len(MIXED), in_features, dtype)
    assert error(result, expected) < TOLERANCE[dtype]


def test_a_prompt_and_rows_of_a_tile_to_spare() -> None:
    slots = [1] * 70 + [None] * 5 + [0] * 30
    site = make_site([[4, 4], [16, 5]], 320, (96, 96))
    tiles = LoraTiles.of(slots, 64)
    result, expected = both(site, tiles, len(slots), 320, torch.float32)
    assert error(result, expected) < TOLERANCE[torch.float32]


def test_rows_of_the_bare_base_keep_their_bits() -> None:
    site = make_site([[8]], 64, (48,))
    y, x = normal(6, 48), normal(6, 64)
    result = y.clone()
    lora.add_lora(result, x, site, LoraTiles.of([None, 0, None, 0, None, None], DECODE_ROWS))
    assert torch.equal(result[[0, 2, 4, 5]], y[[0, 2, 4, 5]])
    assert not torch.equal(result[1], y[1])


def test_unused_tiles_change_nothing() -> None:
    site = make_site([[8], [4]], 64, (48,))
    y, x = normal(4, 48), normal(4, 64)
    result, expected = y.clone(), y.clone()
    static = LoraTiles.empty(4, DECODE_ROWS)
    lora.add_lora(result, x, site, static)
    assert torch.equal(result, y)
    used = LoraTiles.of([1, 0, None, 1], DECODE_ROWS)
    static.slots[: len(used.slots)].copy_(used.slots)
    static.rows[: len(used.rows)].copy_(used.rows)
    lora.add_lora(result, x, site, static)
    twin.add_lora(expected, x, site, used)
    assert error(result, expected) < TOLERANCE[torch.float32]


def test_company_changes_no_bit_with_fixed_splits() -> None:
    site = make_site([[8, 8], [16, 16], [3, 3]], 1100, (64, 32))
    x, y = normal(9, 1100), normal(9, 96)
    together, alone = y.clone(), y[4:5].clone()
    slots = [0, 2, 1, 1, 1, None, 0, 1, 1]
    lora.add_lora_invariant(together, x, site, LoraTiles.of(slots, DECODE_ROWS))
    lora.add_lora_invariant(alone, x[4:5], site, LoraTiles.of([1], DECODE_ROWS))
    assert torch.equal(together[4:5], alone)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_another_adapters_infinities_stay_its_own() -> None:
    site = make_site([[8], [8]], 64, (48,))
    site.arena[int(site.table[0, 0, 0])] = torch.inf
    y, x = normal(2, 48), normal(2, 64)
    lora.add_lora(y, x, site, LoraTiles.of([0, 1], DECODE_ROWS))
    assert not y[0].isfinite().all()
    assert y[1].isfinite().all()


def test_grouping_covers_each_row_once() -> None:
    row_slots = [5, None, 5, 2, 5, 2, 5, 5]
    slots, rows = group_rows(row_slots, 2)
    seen = [(slot, row) for slot, tile in zip(slots, rows, strict=True) for row in tile if row >= 0]
    assert sorted(seen, key=lambda pair: pair[1]) == [
        (slot, row) for row, slot in enumerate(row_slots) if slot is not None
    ]
    assert all(len(tile) == 2 for tile in rows)
    assert len(slots) <= len(row_slots)


def test_runs_are_grouped_as_their_rows_are() -> None:
    runs = [(5, 3), (-1, 2), (2, 4), (5, 6), (2, 1)]
    slots, rows = group_runs(runs, 4)
    expected = group_rows([slot for slot, count in runs for _ in range(count)], 4)
    assert (slots.tolist(), rows.tolist()) == expected
