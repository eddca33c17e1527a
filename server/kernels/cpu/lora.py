"""Each row's own adapter; twin: `server.kernels.lora`.

As there, `A(x)` is rounded to bf16, `B` holds the scaling, and the sum is rounded once when it is
added. Every row is multiplied with its own adapter's factors and true ranks only; of merged
projections, a part's rows of B are read in its own columns only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from server.kernels.cpu.memory import prefetch, read_float, read_int
from server.kernels.cpu.product import OUTS, SUMS_STRIDE, multiply
from server.kernels.cpu.records import MOST_PARTS
from server.kernels.cpu.vector import (
    all_lanes,
    fused,
    load_bf16,
    load_f32,
    rounded,
    store_f32,
)

WIDTH = 32  # outputs whose factors stand together, rank by rank: a cache line each
ROW_BYTES = 2 * WIDTH


@njit
def shrink(site: Any, run: Any, x: int, num_rows: int, shrunk: int) -> None:
    """`A(x)` of a run's rows, for all parts, to `shrunk` [·, rows, 16], sixteen ranks at a time.

    Up to fifteen rows beyond an adapter's own may be multiplied too; nobody reads their results.
    """
    factors, features = site.factors, site.weight.in_features
    rows = x + run.start * 2 * features
    weights = factors.shrink + run.slot * factors.shrink_rows * 2 * features
    for first in range(0, _total_rank(factors, run.slot), OUTS):
        there = shrunk + (first // OUTS * num_rows + run.start) * SUMS_STRIDE
        count = run.stop - run.start
        multiply(rows, count, weights + first * 2 * features, features, there)
        for row in range(there, there + count * SUMS_STRIDE, SUMS_STRIDE):
            store_f32(row, rounded(load_f32(row)))


@njit
def expand(site: Any, run: Any, shrunk: int, num_rows: int, column: int, sums: int) -> None:
    """Add `B(A(x))` of a run's rows to their sixteen outputs from `column` on, at `sums`."""
    first, end = _ranks_of(site.factors, run.slot, column)
    weights = _expand_rows(site, run.slot, column)
    for row in range(run.start, run.stop):
        added = all_lanes(np.float32(0))
        there = weights
        for rank in range(first, end):
            place = (rank // OUTS * num_rows + row) * SUMS_STRIDE + 4 * (rank % OUTS)
            added = fused(all_lanes(read_float(shrunk + place)), load_bf16(there), added)
            there += ROW_BYTES
        if end > first:
            own = sums + row * SUMS_STRIDE
            store_f32(own, rounded(load_f32(own) + added))


@njit
def fetch(site: Any, run: Any, column: int) -> None:
    """Have the part of B fetched that `expand` will read, while the base's weights are decoded."""
    first, end = _ranks_of(site.factors, run.slot, column)
    there = _expand_rows(site, run.slot, column)
    for _ in range(first, end):
        prefetch(there)
        there += ROW_BYTES


@njit
def _expand_rows(site: Any, slot: int, column: int) -> int:
    """Where the outputs from `column` on stand in the first row of B that they have."""
    block = slot * (site.weight.out_features // WIDTH) + column // WIDTH
    row = block * site.factors.expand_rows
    return site.factors.expand + row * ROW_BYTES + 2 * (column % WIDTH)


@njit
def _rank(factors: Any, slot: int, part: int) -> int:
    return read_int(factors.ranks + 8 * (slot * MOST_PARTS + part))


@njit
def _total_rank(factors: Any, slot: int) -> int:
    total = 0
    for part in range(MOST_PARTS):
        total += _rank(factors, slot, part)
    return total


@njit
def _ranks_of(factors: Any, slot: int, column: int) -> tuple[int, int]:
    """The first rank, and the end of those, that the part with this column has."""
    first = 0
    for part in range(MOST_PARTS):
        end = first + _rank(factors, slot, part)
        if column < factors.ends[part]:
            return first, end
        first = end
    return first, first
