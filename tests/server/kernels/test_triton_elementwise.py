"""Norm, rotation with KV write, and activation against their twins, under the interpreter.

In fp16 rather than bf16, which the interpreter rounds towards zero.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if torch.cuda.is_available():
    pytest.skip("tests/gpu holds the kernels on the device", allow_module_level=True)

from server.kernels.rope import RopeTable
from server.kernels.triton import activation, norm, rope
from server.kernels.triton.twins import activation as activation_twin
from server.kernels.triton.twins import norm as norm_twin
from server.kernels.triton.twins import rope as rope_twin
from tests.support.kernel_cases import POISON, error, make_cache, normal

DTYPES = {torch.float32: 1e-6, torch.float16: 4e-4}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [64, 576, 2500])
def test_norms_equal_the_twins(dtype: torch.dtype, hidden: int) -> None:
    residual, x = normal(5, hidden, dtype=dtype), normal(5, hidden, dtype=dtype)
    weight = normal(hidden, dtype=dtype)
    plain = norm.rms_norm(x, weight, 1e-5)
    assert error(plain, norm_twin.rms_norm(x, weight, 1e-5)) < DTYPES[dtype]
    expected_residual = residual.clone()
    expected = norm_twin.add_rms_norm(expected_residual, x, weight, 1e-5)
    assert error(norm.add_rms_norm(residual, x, weight, 1e-5), expected) < DTYPES[dtype]
    assert torch.equal(residual, expected_residual)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("intermediate", [24, 1536])
def test_activation_equals_the_twin(dtype: torch.dtype, intermediate: int) -> None:
    gate_up = normal(3, 2 * intermediate, dtype=dtype)
    result = activation.silu_mul(gate_up)
    assert error(result, activation_twin.silu_mul(gate_up)) < DTYPES[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(6, 2, 64), (3, 3, 80)])
def test_rotation_and_write_equal_the_twin(
    dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int
) -> None:
    table = RopeTable.build(
        head_dim=head_dim, num_positions=300, theta=1e4, like=torch.empty(0, dtype=dtype)
    )
    qkv = normal(4, (heads + 2 * kv_heads) * head_dim, dtype=dtype)
    cache = make_cache(5, kv_heads, head_dim, dtype=dtype)
    expected, expected_cache = qkv.clone(), cache.clone()
    positions = torch.tensor([0, 299, 17, 5])
    kv_slots = torch.tensor([16, 79, -1, 40])
    rope.rotate_and_write(qkv, table, positions, kv_slots, cache)
    rope_twin.rotate_and_write(expected, table, positions, kv_slots, expected_cache)
    assert error(qkv, expected) < DTYPES[dtype]
    assert error(cache, expected_cache) < DTYPES[dtype]
    untouched = torch.ones(80, dtype=torch.bool)
    untouched[kv_slots[kv_slots >= 0]] = False
    assert torch.equal(
        cache.flatten(1, 2)[:, untouched], expected_cache.flatten(1, 2)[:, untouched]
    )


def test_a_scaled_cache_gives_the_keys_back() -> None:
    table = RopeTable.build(head_dim=64, num_positions=8, theta=1e4, like=torch.empty(0))
    qkv, cache = normal(2, 4 * 64), torch.full((2, 2, 16, 1, 64), POISON)
    whole = cache.clone()
    positions, kv_slots = torch.tensor([3, 4]), torch.tensor([17, 18])
    rope.rotate_and_write(qkv.clone(), table, positions, kv_slots, cache, kv_scales=(0.5, 4.0))
    rope.rotate_and_write(qkv.clone(), table, positions, kv_slots, whole)
    assert torch.equal(cache[0, 1, 1:3] * 0.5, whole[0, 1, 1:3])
    assert torch.equal(cache[1, 1, 1:3] * 4.0, whole[1, 1, 1:3])
