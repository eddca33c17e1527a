"""How Hopper's copy engine finds the rows of a product."""

from __future__ import annotations

import torch
from cuda.bindings import driver


def tensor_map(x: torch.Tensor, rows: int) -> driver.CUtensorMap:
    """What the copy engine must know of `x` [tokens, in] bf16 to fetch boxes of `rows` by 64.

    A box lands in rows of 128 bytes, swizzled as wgmma reads them; rows past the last are zeros.
    """
    tokens, features = x.shape
    status, made = driver.cuTensorMapEncodeTiled(
        driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        2,
        x.data_ptr(),
        [driver.cuuint64_t(features), driver.cuuint64_t(tokens)],
        [driver.cuuint64_t(features * 2)],
        [driver.cuuint32_t(64), driver.cuuint32_t(rows)],
        [driver.cuuint32_t(1), driver.cuuint32_t(1)],
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"no tensor map of {tokens} x {features}: {status.name}")
    return made
