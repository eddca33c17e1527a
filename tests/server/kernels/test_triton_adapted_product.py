"""Products with one adapter inside them against their twin, under Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if torch.cuda.is_available():
    pytest.skip("tests/gpu holds the kernels on the device", allow_module_level=True)

from server.kernels.linear import DenseLinear
from server.kernels.triton import activation, adapted_product, norm, prefill
from server.kernels.triton.room import ROOM, empty_rows, with_room
from server.kernels.triton.tiles import PROMPT_ROWS, LoraTiles
from server.kernels.triton.twins import activation as activation_twin
from server.kernels.triton.twins import adapted_product as twin
from server.kernels.triton.twins import attention as attention_twin
from server.kernels.triton.twins import norm as norm_twin
from server.kernels.triton.twins.lora import add_lora
from tests.support.kernel_cases import POISON, error, make_cache, make_chunks, make_site, normal

TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3}
RANKS = [[16, 16, 16], [3, 0, 5], [1, 40, 23]]
BASE = -1


@dataclass(frozen=True)
class InPieces(DenseLinear):
    """A weight that comes in two pieces, one in the other's place, its room full of poison."""

    first: int

    def unpacks(self, tokens: int) -> bool:
        return tokens > 0

    def pieces(self, dtype: torch.dtype, *, room: int) -> Iterator[tuple[int, torch.Tensor]]:
        rows, features = self.weight.shape
        scratch = self.weight.new_empty(max(self.first, rows - self.first), features + room)
        for start, end in ((0, self.first), (self.first, rows)):
            scratch[: end - start, :features] = self.weight[start:end].to(dtype)
            scratch[:, features:] = POISON
            yield start, scratch[: end - start]


def rows_with_room(count: int, features: int, dtype: torch.dtype) -> torch.Tensor:
    x = empty_rows(normal(count, 1, dtype=dtype), features, ROOM)
    with_room(x).fill_(POISON)
    return x.copy_(normal(count, features))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("features", "widths"), [(192, (96, 32, 32)), (80, (100, 100)), (272, (72,))]
)
@pytest.mark.parametrize("slot", [0, 1, 2, BASE])
def test_equals_the_twin(
    dtype: torch.dtype, features: int, widths: tuple[int, ...], slot: int
) -> None:
    site = make_site([ranks[: len(widths)] for ranks in RANKS], features, widths, dtype=dtype)
    weight = normal(sum(widths), features, dtype=dtype, std=features**-0.5)
    linear, x = InPieces(weight, 40), rows_with_room(70, features, dtype)
    tiles = LoraTiles.of([slot] * 70, PROMPT_ROWS)
    expected = twin.adapted_product(x, linear, site, tiles)
    with_room(x)[:, features:] = POISON
    assert (
        error(adapted_product.adapted_product(x, linear, site, tiles), expected)
        < (TOLERANCE[dtype])
    )


@pytest.mark.parametrize("slot", [0, 1, 2, BASE])
def test_is_the_product_with_lora_behind_it(slot: int) -> None:
    site = make_site(RANKS, 192, (96, 32, 32))
    linear, x = InPieces(normal(160, 192), 96), rows_with_room(20, 192, torch.float32)
    tiles = LoraTiles.of([slot] * 20, PROMPT_ROWS)
    expected = linear(x)
    add_lora(expected, x, site, tiles)
    assert error(twin.adapted_product(x, linear, site, tiles), expected) < 1e-6


def test_what_rows_of_no_tile_hold_reaches_no_other_row() -> None:
    site = make_site([[16]], 64, (48,))
    linear, x = InPieces(normal(48, 64), 32), rows_with_room(12, 64, torch.float32)
    x[10:] = POISON
    tiles = LoraTiles.of([0] * 10, PROMPT_ROWS)
    expected = twin.adapted_product(x, linear, site, tiles)
    result = adapted_product.adapted_product(x, linear, site, tiles)
    assert error(result[:10], expected[:10]) < TOLERANCE[torch.float32]


def test_inputs_of_products_leave_room_behind_their_rows() -> None:
    x, residual, weight = normal(5, 64), normal(5, 64), normal(64)
    made = {
        "norm": [module.rms_norm(x, weight, 1e-5, room=ROOM) for module in (norm, norm_twin)],
        "sum": [
            module.add_rms_norm(residual.clone(), x, weight, 1e-5, room=ROOM)
            for module in (norm, norm_twin)
        ],
        "gate": [module.silu_mul(x, room=ROOM) for module in (activation, activation_twin)],
    }
    chunks, blocks = make_chunks([(5, 9)])
    query, cache = normal(5, 4, 16), make_cache(blocks, 2, 16, dtype=torch.float32)
    made["attention"] = [
        module.prefill_attention(query, cache, chunks, room=ROOM).flatten(1)
        for module in (prefill, attention_twin)
    ]
    for result, expected in made.values():
        assert error(result, expected) < TOLERANCE[torch.float32]
        assert with_room(result).shape == with_room(expected).shape == (5, result.shape[1] + ROOM)
