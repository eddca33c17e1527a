"""The gated activation of sixteen features; twin: `server.kernels.activation.silu_mul`."""

from __future__ import annotations

from typing import Any

from numba import njit

from server.kernels.cpu.vector import all_lanes, exp, rounded


@njit
def silu_mul(gate: Any, up: Any) -> Any:
    """`silu(gate) * up`, the first rounded to bf16."""
    one, zero = all_lanes(1.0), all_lanes(0.0)
    return rounded(gate / (one + exp(zero - gate))) * up
