"""Half-precision numbers as float32: every one of them, exactly."""

from __future__ import annotations

import numpy as np

from registry.half_floats import from_bfloat16, from_float16

EVERY = np.arange(1 << 16, dtype=np.uint16)


def test_every_float16_is_what_numpy_makes_of_it() -> None:
    finite = EVERY[np.isfinite(EVERY.view(np.float16))].view(np.float16)
    for values in (finite, EVERY.view(np.float16), finite[:0]):
        out = np.full(values.size, 7, np.float32)
        from_float16(values, out)
        np.testing.assert_array_equal(out, values.astype(np.float32))


def test_a_negative_zero_keeps_its_sign() -> None:
    out = np.ones(2, np.float32)
    from_float16(np.array([-0.0, 0.0], np.float16), out)
    assert np.signbit(out).tolist() == [True, False]


def test_every_bfloat16_is_the_upper_half_of_its_float32() -> None:
    out = np.empty(EVERY.size, np.float32)
    from_bfloat16(EVERY, out)
    np.testing.assert_array_equal(out.view(np.uint32) >> 16, EVERY)
    assert not np.any(out.view(np.uint32) & 0xFFFF)
