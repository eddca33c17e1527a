"""What adapters change, added by the kernels that read a product, against the twins."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if torch.cuda.is_available():
    pytest.skip("tests/gpu holds the kernels on the device", allow_module_level=True)

from server.kernels.rope import RopeTable
from server.kernels.triton import activation, lora, norm, rope
from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.tiles import DECODE_ROWS, LoraTiles
from server.kernels.triton.twins import activation as activation_twin
from server.kernels.triton.twins import lora as lora_twin
from server.kernels.triton.twins import norm as norm_twin
from server.kernels.triton.twins import rope as rope_twin
from tests.support.kernel_cases import error, make_cache, make_site, normal

SLOTS = [0, 1, None, 2, 1, 3]
RANKS = (8, 3, 40, 16)
DTYPES = {torch.float32: 2e-6, torch.float16: 1e-3}
IN_FEATURES = 320


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make_deltas(widths: tuple[int, ...], dtype: torch.dtype) -> tuple[LoraDelta, LoraDelta]:
    """(the kernel's, the twin's) for random inputs; the last slot leaves all but one part alone."""
    ranks = [[rank] * len(widths) for rank in RANKS]
    ranks[-1][1:] = [0] * (len(widths) - 1)
    site = make_site(ranks, IN_FEATURES, widths, dtype=dtype)
    tiles = LoraTiles.of(SLOTS, DECODE_ROWS)
    row_slots = torch.tensor([-1 if s is None else s for s in SLOTS], dtype=torch.int32)
    x = normal(len(SLOTS), IN_FEATURES, dtype=dtype)
    return (
        lora.shrink_beside(x, site, tiles, row_slots),
        lora_twin.shrink_beside(x, site, tiles, row_slots),
    )


def test_the_twin_adds_what_add_lora_does() -> None:
    site = make_site([[4, 8], [16, 2], [3, 3], [1, 0]], 64, (48, 32))
    x, y = normal(len(SLOTS), 64), normal(len(SLOTS), 80)
    tiles = LoraTiles.of(SLOTS, DECODE_ROWS)
    row_slots = torch.tensor([-1 if s is None else s for s in SLOTS], dtype=torch.int32)
    changed = lora_twin.expanded(y, lora_twin.shrink_beside(x, site, tiles, row_slots))
    lora_twin.add_lora(y, x, site, tiles)
    assert error(changed, y) < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("intermediate", [24, 1104])
def test_activation(dtype: torch.dtype, intermediate: int) -> None:
    ours, twins = make_deltas((intermediate, intermediate), dtype)
    gate_up = normal(len(SLOTS), 2 * intermediate, dtype=dtype)
    before = gate_up.clone()
    result = activation.silu_mul(gate_up, delta=ours)
    assert error(result, activation_twin.silu_mul(gate_up, delta=twins)) < DTYPES[dtype]
    assert torch.equal(gate_up, before)
    assert torch.equal(result[2], activation.silu_mul(gate_up[2:3])[0])  # the bare base's row


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [64, 2500])
def test_norm(dtype: torch.dtype, hidden: int) -> None:
    ours, twins = make_deltas((hidden,), dtype)
    residual, x = normal(len(SLOTS), hidden, dtype=dtype), normal(len(SLOTS), hidden, dtype=dtype)
    weight, expected_residual = normal(hidden, dtype=dtype), residual.clone()
    result = norm.add_rms_norm(residual, x, weight, 1e-5, delta=ours)
    expected = norm_twin.add_rms_norm(expected_residual, x, weight, 1e-5, delta=twins)
    assert error(result, expected) < DTYPES[dtype]
    assert error(residual, expected_residual) < DTYPES[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(6, 2, 64), (3, 3, 80), (9, 5, 8)])
def test_rotation(dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int) -> None:
    ours, twins = make_deltas((heads * head_dim, kv_heads * head_dim, kv_heads * head_dim), dtype)
    table = RopeTable.build(
        head_dim=head_dim, num_positions=300, theta=1e4, like=torch.empty(0, dtype=dtype)
    )
    qkv = normal(len(SLOTS), (heads + 2 * kv_heads) * head_dim, dtype=dtype)
    cache = make_cache(5, kv_heads, head_dim, dtype=dtype)
    expected, expected_cache = qkv.clone(), cache.clone()
    positions = torch.tensor([0, 299, 17, 5, 8, 100])
    kv_slots = torch.tensor([16, 79, -1, 40, 41, 3])
    rope.rotate_and_write(qkv, table, positions, kv_slots, cache, delta=ours)
    rope_twin.rotate_and_write(expected, table, positions, kv_slots, expected_cache, delta=twins)
    assert error(qkv, expected) < DTYPES[dtype]
    assert error(cache, expected_cache) < DTYPES[dtype]


def test_company_changes_no_bit() -> None:
    site = make_site([[8], [16], [3], [24]], 1100, (96,))
    x, y = normal(len(SLOTS), 1100), normal(len(SLOTS), 96)
    row_slots = torch.tensor([-1 if s is None else s for s in SLOTS], dtype=torch.int32)
    weight = normal(96)
    together = lora.shrink_beside(x, site, LoraTiles.of(SLOTS, DECODE_ROWS), row_slots)
    alone = lora.shrink_beside(x[4:5], site, LoraTiles.of([1], DECODE_ROWS), row_slots[4:5])
    among = norm.add_rms_norm(torch.zeros_like(y), y, weight, 1e-5, delta=together)
    single = norm.add_rms_norm(torch.zeros_like(y[4:5]), y[4:5], weight, 1e-5, delta=alone)
    assert torch.equal(among[4:5], single)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_another_adapters_infinities_stay_its_own() -> None:
    site = make_site([[8], [8]], 64, (48,))
    site.arena[int(site.table[0, 0, 1])] = torch.inf
    x, y, weight = normal(3, 64), normal(3, 48), normal(48)
    row_slots = torch.tensor([0, 1, -1], dtype=torch.int32)
    delta = lora.shrink_beside(x, site, LoraTiles.of([0, 1, None], DECODE_ROWS), row_slots)
    result = norm.add_rms_norm(torch.zeros_like(y), y, weight, 1e-5, delta=delta)
    assert not result[0].isfinite().all()
    assert result[1:].isfinite().all()
