"""NF4 codes → the bf16 weights that QLoRA trained against, exactly.

A block of 64 weights has one scale, so at most sixteen values: they are computed once, each
rounded as `dequantize_4bit` rounds it, and the codes look them up.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model

from server.kernels.cpu import emit
from server.kernels.cpu.vector import F32X16, LANES

BLOCK = 64
CODE_BYTES, SCALE_BYTES, WEIGHT_BYTES = BLOCK // 2, 4, 2 * BLOCK  # of one block
NF4_VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
WORDS = emit.vector(emit.INT16, 32)
BYTES = emit.vector(emit.INT8, 64)
NIBBLES = (4, 4, 0, 0, 12, 12, 8, 8)
"""Where, in two bytes of codes, the bits of each of their four weights begin, twice for each: a
look-up reads the low bits of 16. The high half of a byte comes first."""


class _WordsType(types.Type):  # type: ignore[misc]
    """numba's name for 32 bf16."""

    def __init__(self) -> None:
        super().__init__(name="Words")


Words = _WordsType()


@register_model(_WordsType)
class _WordsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, WORDS)


@intrinsic
def _block_values(_context: Any, scale: Any) -> Any:
    """The sixteen weights that a block with the scale at this address can hold, twice over.

    Twice, because a look-up among 32 reads five bits, of which the fifth is the neighbour's.
    """

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        scales = emit.spread(builder, emit.load(builder, values[0], emit.FLOAT), LANES)
        scaled = builder.fmul(scales, ir.Constant(F32X16, list(NF4_VALUES)))
        words = emit.narrow(builder, scaled)
        return emit.shuffle(builder, words, words, [*range(LANES), *range(LANES)])

    return Words(types.int64), code


@intrinsic
def _look_up(_context: Any, codes: Any, block_values: Any) -> Any:
    """The 32 weights of 16 bytes of codes, in order."""

    def code(_c: Any, builder: Any, _s: Any, values: Any) -> Any:
        pairs = emit.load(builder, values[0], emit.vector(emit.INT16, 8))
        spread = builder.bitcast(builder.zext(pairs, emit.vector(emit.INT64, 8)), BYTES)
        places = ir.Constant(BYTES, list(NIBBLES) * 8)
        name = "llvm.x86.avx512.pmultishift.qb.512"
        indices = builder.bitcast(emit.call(builder, name, BYTES, [places, spread]), WORDS)
        return emit.call(builder, "llvm.x86.avx512.permvar.hi.512", WORDS, [values[1], indices])

    return Words(types.int64, Words), code


@intrinsic
def _store_words(_context: Any, address: Any, words: Any) -> Any:
    def code(context: Any, builder: Any, _s: Any, values: Any) -> Any:
        emit.store(builder, values[0], values[1])
        return context.get_dummy_value()

    return types.void(types.int64, Words), code


@njit
def decode(codes: int, scales: int, num_blocks: int, weights: int) -> None:
    """Write `num_blocks` blocks of 64 weights, decoded, to the address `weights`."""
    for _ in range(num_blocks):
        block_values = _block_values(scales)
        _store_words(weights, _look_up(codes, block_values))
        _store_words(weights + WEIGHT_BYTES // 2, _look_up(codes + CODE_BYTES // 2, block_values))
        codes += CODE_BYTES
        scales += SCALE_BYTES
        weights += WEIGHT_BYTES
