"""Products of a few rows with a few outputs, sixteen sums at once: the heart of every product.

A sum runs over the inputs 32 at a time, each of the sixteen lanes adding its own pair (`dpbf16ps`:
bf16 factors, fp32 sums), and ends with the lanes being added as halves upon halves. That order is
the same whatever the tile's shape, so a row's result does not depend on the rows beside it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from server.kernels.cpu import emit
from server.kernels.cpu.vector import F32X16, LANES, Floats

STEP = 64  # bytes: the 32 bf16 that one instruction takes of a row
PAIRS = emit.vector(emit.BFLOAT, 32)
SUMS = ir.ArrayType(F32X16, LANES)


class _TileType(types.Type):  # type: ignore[misc]
    """numba's name for sixteen running sums of sixteen lanes."""

    def __init__(self) -> None:
        super().__init__(name="Tile")


Tile = _TileType()


@register_model(_TileType)
class _TileModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, SUMS)


@intrinsic
def empty_tile(_context: Any) -> Any:
    """Sixteen sums of nothing."""
    return Tile(), lambda *_: ir.Constant(SUMS, None)


@intrinsic(prefer_literal=True)
def add_products(
    _context: Any, tile: Any, x: Any, x_stride: Any, w: Any, w_stride: Any, rows: Any, outs: Any
) -> Any:
    """Add the next 32 products of `rows` rows at `x` with `outs` rows at `w`; rows · outs is 16.

    Strides are bytes. rows and outs must be constants.
    """

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        tile, x, x_stride, w, w_stride = values[:5]
        weights = [_row(builder, w, w_stride, index) for index in range(outs.literal_value)]
        for row in range(rows.literal_value):
            inputs = _row(builder, x, x_stride, row)
            for out, weight in enumerate(weights):
                index = row * len(weights) + out
                arguments = [builder.extract_value(tile, index), inputs, weight]
                name = "llvm.x86.avx512bf16.dpbf16ps.512"
                tile = builder.insert_value(
                    tile, emit.call(builder, name, F32X16, arguments), index
                )
        return tile

    return Tile(Tile, *[types.int64] * 4, rows, outs), code


def _row(builder: Any, base: Any, stride: Any, index: int) -> Any:
    address = builder.add(base, builder.mul(stride, emit.INT64(index)))
    return emit.load(builder, address, PAIRS)


@intrinsic
def tile_sums(_context: Any, tile: Any) -> Any:
    """Each of the sixteen sums in its own lane.

    Vectors are added in pairs, halves upon halves, so that fifteen additions serve all sixteen.
    """

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        vectors = [builder.extract_value(values[0], index) for index in range(LANES)]
        half = LANES // 2
        while half:
            pairs = zip(vectors[: len(vectors) // 2], vectors[len(vectors) // 2 :], strict=True)
            vectors = [_halves_added(builder, left, right, half) for left, right in pairs]
            half //= 2
        return vectors[0]

    return Floats(Tile), code


def _halves_added(builder: Any, left: Any, right: Any, half: int) -> Any:
    """In groups of 2 · half lanes: left's halves added, then right's."""
    starts = range(0, LANES, 2 * half)
    lower = [start + base + lane for start in starts for base in (0, LANES) for lane in range(half)]
    upper = [lane + half for lane in lower]
    return builder.fadd(
        emit.shuffle(builder, left, right, lower), emit.shuffle(builder, left, right, upper)
    )


@intrinsic(prefer_literal=True)
def store_sums(_context: Any, address: Any, stride: Any, sums: Any, rows: Any, outs: Any) -> Any:
    """A tile's sums to `rows` rows of `outs` fp32, `stride` bytes apart."""

    def code(context: Any, builder: Any, _s: Any, values: Any) -> Any:
        address, stride, sums = values[:3]
        count = outs.literal_value
        for row in range(rows.literal_value):
            lanes = range(row * count, (row + 1) * count)
            there = builder.add(address, builder.mul(stride, emit.INT64(row)))
            emit.store(builder, there, emit.shuffle(builder, sums, sums, lanes))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, Floats, rows, outs), code
