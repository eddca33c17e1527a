"""Where the compiled kernels can run."""

from __future__ import annotations

import importlib.util
import sys

FEATURES = ("avx512f", "avx512bw", "avx512vbmi", "avx512bf16")
HEAD_DIMS = (32, 64, 128)


def is_supported() -> bool:
    """Whether this machine has numba, and a CPU with every instruction that the kernels use."""
    if not sys.platform.startswith("linux") or importlib.util.find_spec("numba") is None:
        return False
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return all(features.get(name, False) for name in FEATURES)
