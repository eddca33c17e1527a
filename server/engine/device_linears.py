"""What multiplies with NF4 weights on a device."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import torch

from registry.homes import kernel_cache
from server.engine.config import EngineSettings
from server.engine.weights import MakeLinear, Quantized
from server.errors import StartupError
from server.kernels.cuda.nested import NestedNf4Weight, merge_nested
from server.kernels.cuda.shadow import ShadowedLinear
from server.kernels.linear import DenseLinear, Linear

if TYPE_CHECKING:
    from server.kernels.cuda.gemm import Nf4Gemm

logger = logging.getLogger(__name__)

EXTRA = "pip install 'hatstand[server,cuda]'"
Pack = Callable[[NestedNf4Weight], Linear]


def device_linears(settings: EngineSettings, beside: Executor) -> MakeLinear | None:
    """Our own NF4 products where they run: bf16 on CUDA; None leaves the plain-torch ones.

    beside: compiles their kernels while weights load; one that fails is compiled again by whoever
    multiplies first, and fails there. Raises StartupError if the mode asked for needs cuda-core,
    which is not installed.
    """
    device = torch.device(settings.device)
    if device.type != "cuda" or settings.dtype != torch.bfloat16:
        return None
    pack = _compiled(device, settings, beside)

    def make(parts: Sequence[Quantized]) -> Linear:
        weight = merge_nested([NestedNf4Weight.of(*part) for part in parts])
        packed = pack(weight)
        if settings.weights != "nf4-shadow":
            return packed
        return ShadowedLinear(packed, DenseLinear(weight.dequantize()))

    return make


def _compiled(device: torch.device, settings: EngineSettings, beside: Executor) -> Pack:
    try:
        from server.kernels.cuda.gemm import Nf4Gemm
    except ModuleNotFoundError as error:
        return _fallback(settings, error)
    gemm = Nf4Gemm(device, mode=settings.gemm, cache=kernel_cache() / "cuda")
    beside.submit(_prepare, gemm)
    return gemm.linear


def _prepare(gemm: Nf4Gemm) -> None:
    started = time.perf_counter()
    gemm.prepare()
    logger.info("NF4 kernels ready in %.1f s", time.perf_counter() - started)


def _fallback(settings: EngineSettings, error: ModuleNotFoundError) -> Pack:
    """Triton's exact products, slower by up to a half."""
    if settings.gemm != "exact":
        raise StartupError(f"--gemm {settings.gemm} needs cuda-core: {EXTRA}") from error
    logger.warning("cuda-core is not installed, so Triton multiplies, slower: %s", EXTRA)
    from server.kernels.triton.nf4 import TritonNf4Linear

    return TritonNf4Linear.of
