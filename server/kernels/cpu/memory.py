"""Single numbers at addresses, and the atomic ones that threads share."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from server.kernels.cpu import emit


@intrinsic
def read_int(_context: Any, address: Any) -> Any:
    """The int64 at an address."""
    return types.int64(types.int64), lambda _c, builder, _s, values: emit.load(
        builder, values[0], emit.INT64
    )


@intrinsic
def read_float(_context: Any, address: Any) -> Any:
    """The fp32 at an address."""
    return types.float32(types.int64), lambda _c, builder, _s, values: emit.load(
        builder, values[0], emit.FLOAT
    )


@intrinsic
def read_bf16(_context: Any, address: Any) -> Any:
    """The bf16 at an address, widened."""

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        words = emit.load(builder, values[0], emit.vector(emit.INT16, 1))
        return builder.extract_element(emit.widen(builder, words), emit.INT32(0))

    return types.float32(types.int64), code


@intrinsic
def write_int(_context: Any, address: Any, value: Any) -> Any:
    """An int64 to an address."""

    def code(context: Any, builder: Any, _s: Any, values: Any) -> Any:
        emit.store(builder, values[0], values[1])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def write_float(_context: Any, address: Any, value: Any) -> Any:
    """An fp32 to an address."""

    def code(context: Any, builder: Any, _s: Any, values: Any) -> Any:
        emit.store(builder, values[0], values[1])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), code


@intrinsic
def prefetch(_context: Any, address: Any) -> Any:
    """Have the cache line at an address fetched, and go on."""

    def code(context: Any, builder: Any, _s: Any, values: Any) -> Any:
        there = emit.pointer(builder, values[0], emit.INT8)
        kinds = [emit.INT32(0), emit.INT32(3), emit.INT32(1)]  # to read, keep close, data
        emit.call(builder, "llvm.prefetch.p0", emit.VOID, [there, *kinds])
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def count_up(_context: Any, address: Any) -> Any:
    """Add one to a shared int64 and return what it was."""

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        shared = emit.pointer(builder, values[0], emit.INT64)
        return builder.atomic_rmw("add", shared, emit.INT64(1), "seq_cst")

    return types.int64(types.int64), code


@intrinsic
def read_shared(_context: Any, address: Any) -> Any:
    """A shared int64, and with it all that was written before it was counted up."""

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        return builder.load_atomic(emit.pointer(builder, values[0], emit.INT64), "acquire", 8)

    return types.int64(types.int64), code


@intrinsic
def pause(_context: Any) -> Any:
    """Wait a few dozen cycles, leaving the core to its other half."""

    def code(context: Any, builder: Any, _s: Any, _v: Any) -> Any:
        emit.call(builder, "llvm.x86.sse2.pause", emit.VOID, [])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def give_way(_context: Any) -> Any:
    """Let another thread have the core (sched_yield)."""

    def code(context: Any, builder: Any, _s: Any, _v: Any) -> Any:
        emit.call(builder, "sched_yield", emit.INT32, [])
        return context.get_dummy_value()

    return types.void(), code
