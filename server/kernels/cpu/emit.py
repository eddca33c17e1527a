"""The LLVM instructions that vector values are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

Builder = Any
Value = Any

INT8, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
FLOAT = ir.FloatType()
VOID = ir.VoidType()


class _BFloat(ir.types._BaseFloatType):  # type: ignore[misc]
    """bf16, which llvmlite has no name for."""

    null = "0.0"
    intrinsic_name = "bf16"

    def __str__(self) -> str:
        return "bfloat"


_BFloat._create_instance()
BFLOAT = _BFloat()


def vector(element: Any, lanes: int) -> Any:
    return ir.VectorType(element, lanes)


def call(builder: Builder, name: str, result: Any, arguments: Sequence[Value]) -> Value:
    """Call an LLVM intrinsic or a C function by name."""
    known = builder.module.globals.get(name)
    if known is None:
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        known = ir.Function(builder.module, signature, name)
    return builder.call(known, arguments)


def pointer(builder: Builder, address: Value, pointee: Any) -> Value:
    return builder.inttoptr(address, pointee.as_pointer())


def after(builder: Builder, address: Value, offset: int) -> Value:
    """The address `offset` bytes further on."""
    return builder.add(address, INT64(offset))


def load(builder: Builder, address: Value, what: Any) -> Value:
    loaded = builder.load(pointer(builder, address, what))
    loaded.align = 1
    return loaded


def store(builder: Builder, address: Value, value: Value) -> None:
    builder.store(value, pointer(builder, address, value.type)).align = 1


def shuffle(builder: Builder, left: Value, right: Value, lanes: Sequence[int]) -> Value:
    """Lanes of `left`, then of `right`, picked by number."""
    return builder.shuffle_vector(left, right, ir.Constant(vector(INT32, len(lanes)), list(lanes)))


def spread(builder: Builder, scalar: Value, lanes: int) -> Value:
    """The scalar in every lane."""
    whole = vector(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(whole, ir.Undefined), scalar, INT32(0))
    return shuffle(builder, first, first, [0] * lanes)


def widen(builder: Builder, words: Value) -> Value:
    """bf16 as 16-bit words → fp32: a bf16 is the upper half of its fp32."""
    lanes = words.type.count
    wide = builder.zext(words, vector(INT32, lanes))
    shifted = builder.shl(wide, ir.Constant(vector(INT32, lanes), [16] * lanes))
    return builder.bitcast(shifted, vector(FLOAT, lanes))


def narrow(builder: Builder, floats: Value) -> Value:
    """Sixteen fp32 → bf16 as 16-bit words, rounded to nearest even."""
    name = "llvm.x86.avx512bf16.cvtneps2bf16.512"
    return builder.bitcast(call(builder, name, vector(BFLOAT, 16), [floats]), vector(INT16, 16))
