"""Rows times sixteen outputs of a weight; twin: `server.kernels.linear.multiply`."""

from __future__ import annotations

from numba import njit

from server.kernels.cpu.nf4 import BLOCK, CODE_BYTES, SCALE_BYTES, decode
from server.kernels.cpu.tile import STEP, add_products, empty_tile, store_sums, tile_sums

OUTS = 16  # outputs computed together
SUMS_STRIDE = 4 * OUTS  # bytes from one row's sums to the next


@njit
def multiply(x: int, rows: int, weights: int, features: int, sums: int) -> None:
    """Multiply `rows` rows of bf16 at `x` with sixteen at `weights`; fp32 [rows, 16] to `sums`.

    features must be a multiple of 32.
    """
    stride = 2 * features
    row = 0
    while row + 4 <= rows:
        for out in range(0, OUTS, 4):
            tile = empty_tile()
            inputs, columns = x + row * stride, weights + out * stride
            for offset in range(0, stride, STEP):
                tile = add_products(tile, inputs + offset, stride, columns + offset, stride, 4, 4)
            there = sums + row * SUMS_STRIDE + 4 * out
            store_sums(there, SUMS_STRIDE, tile_sums(tile), 4, 4)
        row += 4
    while row < rows:
        tile = empty_tile()
        inputs = x + row * stride
        for offset in range(0, stride, STEP):
            tile = add_products(tile, inputs + offset, stride, weights + offset, stride, 1, OUTS)
        store_sums(sums + row * SUMS_STRIDE, SUMS_STRIDE, tile_sums(tile), 1, OUTS)
        row += 1


@njit
def decode_outs(codes: int, scales: int, out: int, features: int, weights: int) -> None:
    """Decode outputs `out` to `out + 16` of an NF4 weight [·, features] to `weights`.

    features must be a multiple of 64, so that no block belongs to two outputs.
    """
    first = out * (features // BLOCK)
    count = OUTS * (features // BLOCK)
    decode(codes + first * CODE_BYTES, scales + first * SCALE_BYTES, count, weights)
