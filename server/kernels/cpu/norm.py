"""Root-mean-square normalisation of one row; twin: `server.kernels.norm.rms_norm`."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from server.kernels.cpu.vector import all_lanes, fused, load_bf16, rounded, store_bf16, total

BF16_BYTES = 2 * 16  # of sixteen


@njit
def rms_norm(x: int, weight: int, eps: float, features: int, out: int) -> None:
    """Normalise `features` bf16 at `x`, scale by those at `weight`, write to `out`."""
    squares = all_lanes(np.float32(0))
    for offset in range(0, 2 * features, BF16_BYTES):
        values = load_bf16(x + offset)
        squares = fused(values, values, squares)
    mean = total(squares) / np.float32(features)
    factor = all_lanes(np.float32(1) / np.float32(math.sqrt(mean + np.float32(eps))))
    for offset in range(0, 2 * features, BF16_BYTES):
        normed = rounded(load_bf16(x + offset) * factor)
        store_bf16(out + offset, normed * load_bf16(weight + offset))
