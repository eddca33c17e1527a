"""Sixteen fp32 numbers at once: a value type for compiled kernels and what can be done with it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, overload, register_model

from server.kernels.cpu import emit

LANES = 16
F32X16 = emit.vector(emit.FLOAT, LANES)
LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # together ln 2; the first has few bits
EXP_SERIES = (
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)


class _FloatsType(types.Type):  # type: ignore[misc]
    """numba's name for the vector."""

    def __init__(self) -> None:
        super().__init__(name="Floats")


Floats = _FloatsType()


@register_model(_FloatsType)
class _FloatsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, F32X16)


@intrinsic
def load_f32(_context: Any, address: Any) -> Any:
    """Sixteen fp32 from an address."""
    return Floats(types.int64), lambda _c, builder, _s, values: emit.load(
        builder, values[0], F32X16
    )


@intrinsic
def load_bf16(_context: Any, address: Any) -> Any:
    """Sixteen bf16 from an address, widened."""

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        return emit.widen(builder, emit.load(builder, values[0], emit.vector(emit.INT16, LANES)))

    return Floats(types.int64), code


@intrinsic
def store_f32(_context: Any, address: Any, floats: Any) -> Any:
    """Sixteen fp32 to an address."""

    def code(context: Any, builder: Any, _s: Any, values: Any) -> Any:
        emit.store(builder, values[0], values[1])
        return context.get_dummy_value()

    return types.void(types.int64, Floats), code


@intrinsic
def store_bf16(_context: Any, address: Any, floats: Any) -> Any:
    """Sixteen bf16 to an address, rounded to nearest even."""

    def code(context: Any, builder: Any, _s: Any, values: Any) -> Any:
        emit.store(builder, values[0], emit.narrow(builder, values[1]))
        return context.get_dummy_value()

    return types.void(types.int64, Floats), code


@intrinsic
def rounded(_context: Any, floats: Any) -> Any:
    """The nearest bf16 of every lane."""
    return Floats(Floats), lambda _c, builder, _s, values: emit.widen(
        builder, emit.narrow(builder, values[0])
    )


@intrinsic
def all_lanes(_context: Any, scalar: Any) -> Any:
    """One fp32 in every lane."""
    return Floats(types.float32), lambda _c, builder, _s, values: emit.spread(
        builder, values[0], LANES
    )


@intrinsic
def fused(_context: Any, left: Any, right: Any, addend: Any) -> Any:
    """`left · right + addend`, rounded once."""
    return Floats(Floats, Floats, Floats), lambda _c, builder, _s, values: emit.call(
        builder, "llvm.fma.v16f32", F32X16, values
    )


@intrinsic
def lanes_between(_context: Any, floats: Any, first: Any, end: Any, other: Any) -> Any:
    """The lanes from `first` up to `end` as they are, `other` in the rest."""

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        floats, first, end, other = values
        lanes = ir.Constant(emit.vector(emit.INT64, LANES), list(range(LANES)))
        kept = builder.and_(
            builder.icmp_signed(">=", lanes, emit.spread(builder, first, LANES)),
            builder.icmp_signed("<", lanes, emit.spread(builder, end, LANES)),
        )
        return builder.select(kept, floats, emit.spread(builder, other, LANES))

    return Floats(Floats, types.int64, types.int64, types.float32), code


def _binary(code: Callable[[Any, Any, Any], Any]) -> Any:
    """An operation on two vectors, from what it emits."""

    @intrinsic
    def operation(_context: Any, left: Any, right: Any) -> Any:
        return Floats(Floats, Floats), lambda _c, builder, _s, values: code(builder, *values)

    return operation


at_most = _binary(
    lambda builder, floats, bound: builder.select(
        builder.fcmp_ordered(">", floats, bound), bound, floats
    )
)
at_least = _binary(
    lambda builder, floats, bound: builder.select(
        builder.fcmp_ordered("<", floats, bound), bound, floats
    )
)
maximum = _binary(  # NaN where either is
    lambda builder, left, right: emit.call(builder, "llvm.maximum.v16f32", F32X16, [left, right])
)
_scale_by_power = _binary(
    lambda builder, floats, power: emit.call(
        builder,
        "llvm.x86.avx512.mask.scalef.ps.512",
        F32X16,
        [floats, power, floats, emit.INT16(-1), emit.INT32(4)],
    )
)


def _operator(symbol: Any, operation: Any) -> None:
    """Let compiled kernels write `symbol` between vectors."""

    @overload(symbol, strict=False)  # an annotated signature and a bare one
    def _chosen(left: Any, right: Any) -> Any:
        if left is Floats and right is Floats:
            return lambda left, right: operation(left, right)
        return None


_operator(operator.add, _binary(lambda builder, left, right: builder.fadd(left, right)))
_operator(operator.sub, _binary(lambda builder, left, right: builder.fsub(left, right)))
_operator(operator.mul, _binary(lambda builder, left, right: builder.fmul(left, right)))
_operator(operator.truediv, _binary(lambda builder, left, right: builder.fdiv(left, right)))


def _folded(code: Callable[[Any, Any, Any], Any]) -> Any:
    """All lanes as one, halves upon halves: always in the same order."""

    @intrinsic
    def operation(_context: Any, floats: Any) -> Any:
        def fold(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
            left, lanes = values[0], LANES
            while lanes > 1:
                lanes //= 2
                right = emit.shuffle(builder, left, left, range(lanes, 2 * lanes))
                left = code(builder, emit.shuffle(builder, left, left, range(lanes)), right)
            return builder.extract_element(left, emit.INT32(0))

        return types.float32(Floats), fold

    return operation


total = _folded(lambda builder, left, right: builder.fadd(left, right))
largest = _folded(
    lambda builder, left, right: builder.select(builder.fcmp_ordered(">", left, right), left, right)
)

widest = _folded(  # the largest, or NaN if there is one
    lambda builder, left, right: emit.call(
        builder, f"llvm.maximum.v{left.type.count}f32", left.type, [left, right]
    )
)


@intrinsic
def _nearest_integers(_context: Any, floats: Any) -> Any:
    return Floats(Floats), lambda _c, builder, _s, values: emit.call(
        builder, "llvm.roundeven.v16f32", F32X16, values
    )


@njit
def exp(floats: Any) -> Any:
    """e to the power of every lane, within two units of the last place; NaN stays NaN.

    `2^n · e^r` with |r| <= ln 2 / 2, whose series is cut after the fifth power (the coefficients
    are those of Cephes' expf).
    """
    floats = at_least(at_most(floats, all_lanes(89.0)), all_lanes(-110.0))
    power = _nearest_integers(floats * all_lanes(LOG2_E))
    rest = fused(power, all_lanes(-LN2_HIGH), floats)
    rest = fused(power, all_lanes(-LN2_LOW), rest)
    series = all_lanes(1.9875691500e-4)
    for coefficient in EXP_SERIES:
        series = fused(series, rest, all_lanes(coefficient))
    series = fused(series, rest * rest, rest + all_lanes(1.0))
    return _scale_by_power(series, power)
