"""Where and in what numbers a run computes."""

from __future__ import annotations

import torch

from .train_settings import Precision


def device() -> torch.device:
    """Where to train: this process's CUDA device, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def compute_dtype() -> torch.dtype:
    """bfloat16 where the hardware multiplies it, else float32.

    A CPU without AVX512-BF16 only emulates bfloat16: a step took 4 times as long with AVX512 and
    50 times with AVX2. The 4-bit weights and their scales are the same bits either way; what
    float32 leaves out is the rounding of their products.
    """
    from bitsandbytes.functional import has_avx512bf16

    if device().type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if has_avx512bf16() else torch.float32


def autocast(precision: Precision) -> Precision:
    """What the forward pass runs in: `bf16`, `fp16` or `fp32`.

    fp16 needs a GPU's loss scaling; a CPU takes what it is best at instead.
    """
    if precision == "auto" or (precision == "fp16" and device().type != "cuda"):
        return "bf16" if compute_dtype() is torch.bfloat16 else "fp32"
    return precision
