"""Compiled element-wise kernels against their plain-torch twins."""

from __future__ import annotations

import math

import pytest
import torch

from server.kernels.activation import silu_mul
from server.kernels.cpu.support import HEAD_DIMS, is_supported
from server.kernels.norm import rms_norm
from server.kernels.rope import RopeTable, rotate

if not is_supported():
    pytest.skip("needs AVX-512 with bf16", allow_module_level=True)

from numba import njit

from server.kernels.cpu import activation, attention, norm
from server.kernels.cpu.vector import exp, load_bf16, load_f32, store_bf16, store_f32


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@njit
def exp_all(x: int, count: int, out: int) -> None:
    for offset in range(0, 4 * count, 64):
        store_f32(out + offset, exp(load_f32(x + offset)))


@njit
def silu_mul_all(gate: int, up: int, count: int, out: int) -> None:
    for offset in range(0, 2 * count, 32):
        gated = activation.silu_mul(load_bf16(gate + offset), load_bf16(up + offset))
        store_bf16(out + offset, gated)


def test_exp_is_right_to_the_last_places() -> None:
    x = torch.linspace(-87, 88, 16 * 1000)
    found = torch.empty_like(x)
    exp_all(x.data_ptr(), len(x), found.data_ptr())
    torch.testing.assert_close(found.double(), x.double().exp(), rtol=3e-7, atol=0)


def test_exp_of_what_is_out_of_range() -> None:
    x = torch.tensor([-math.inf, -200.0, 0.0, 200.0, math.inf, math.nan] + [0.0] * 10)
    found = torch.empty_like(x)
    exp_all(x.data_ptr(), len(x), found.data_ptr())
    assert found[:5].tolist() == [0.0, 0.0, 1.0, math.inf, math.inf]
    assert found[5].isnan()


def test_silu_mul() -> None:
    gate_up = (4 * random(50, 320)).bfloat16()
    found = torch.empty(50, 160, dtype=torch.bfloat16)
    gate, up = (part.contiguous() for part in gate_up.chunk(2, dim=-1))
    silu_mul_all(gate.data_ptr(), up.data_ptr(), gate.numel(), found.data_ptr())
    expected = silu_mul(gate_up)
    assert (found != expected).float().mean() < 1e-3  # exp differs in its last places
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("features", [16, 576, 4096])
def test_rms_norm(features: int) -> None:
    x, weight = (3 * random(9, features)).bfloat16(), random(features).bfloat16()
    found = torch.empty_like(x)
    for row, out in zip(x, found, strict=True):
        norm.rms_norm(row.data_ptr(), weight.data_ptr(), 1e-5, features, out.data_ptr())
    expected = rms_norm(x, weight, 1e-5)
    assert (found != expected).float().mean() < 1e-3  # the sum runs in another order
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_rotate(head_dim: int, in_place: bool) -> None:
    x = random(20, 1, head_dim).bfloat16()
    table = RopeTable.build(head_dim=head_dim, num_positions=90, theta=1e4, like=x)
    positions = torch.arange(20) * 3
    expected = rotate(x, *table.at(positions))
    out = x if in_place else torch.empty_like(x)
    for row, position in enumerate(positions.tolist()):
        cos, sin = (part[position].data_ptr() for part in (table.cos, table.sin))
        attention.rotate(x[row].data_ptr(), cos, sin, head_dim, out[row].data_ptr())
    assert torch.equal(out, expected)
