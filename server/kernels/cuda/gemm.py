"""Products with NF4 weights on a CUDA device: which kernel, for how many rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from server.kernels.cuda.kernels import Nf4Kernels
from server.kernels.cuda.linear import CudaNf4Linear
from server.kernels.cuda.nested import NestedNf4Weight
from server.kernels.cuda.packing import BAND, PackedNf4, pack
from server.kernels.cuda.shapes import (
    MAX_TOKENS,
    WGMMA_TOKENS,
    WIDE_TOKENS,
    Mode,
    WgmmaShape,
    column_tiles,
    mma_shapes,
    wgmma_tokens,
)

WGMMA_FROM = 17  # tokens; below, mma.sync with its finer split of the depth is faster
WGMMA_DEPTH = 128  # weights of a row that one step takes
MAX_PIECES = 3  # launches; from there on, one dequantization costs less than decoding in each
SCRATCH_BYTES = 128 * 2**20  # of dequantized rows at a time; the fastest at 1,024 rows


class Nf4Gemm:
    """Multiplies rows with packed weights. One for all layers of a model on a device.

    mode: `exact` multiplies with the values that QLoRA trained against. `fast` (opt-in) rounds the
    table to bf16 and scales sums over 64: other weights, not those of training. `batch-invariant`
    is exact and sums in one order for every number of rows.
    cache: a folder for compiled kernels; without it every start compiles them again.
    scratch_bytes: how much of a weight is dequantized at a time for many rows.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        mode: Mode = "exact",
        cache: Path | None = None,
        scratch_bytes: int = SCRATCH_BYTES,
    ) -> None:
        self._kernels = Nf4Kernels(device, mode, cache)
        self._mode = mode
        self._shapes = mma_shapes(self._kernels.gpu.product_bytes, mode)
        self._wgmma_from = 1 if mode == "batch-invariant" else WGMMA_FROM
        self._scratch = torch.empty(scratch_bytes // 2, dtype=torch.bfloat16, device=device)

    def prepare(self) -> None:
        """Compile and load every kernel, so that no later call does."""
        kernels = self._kernels
        loads: list[Callable[[], object]] = [kernels.dequantize_kernel]
        loads += [partial(kernels.mma_kernel, shape) for shape in self._shapes.values()]
        if kernels.gpu.has_wgmma:
            loads += [partial(kernels.wgmma_kernel, shape) for shape in self._wgmma_shapes()]
        with ThreadPoolExecutor() as threads:  # the compiler takes a core for each
            for loaded in [threads.submit(load) for load in loads]:
                loaded.result()

    def _wgmma_shapes(self) -> list[WgmmaShape]:
        """Every one that some number of rows is multiplied with."""
        tokens = [tokens for tokens in WGMMA_TOKENS if tokens >= self._wgmma_from]
        shapes = [WgmmaShape(width, bands) for width in tokens for bands in (1, 2)]
        wide = [] if self._mode == "batch-invariant" else [WgmmaShape(WIDE_TOKENS, 1)]
        return shapes + wide

    def linear(self, weight: NestedNf4Weight) -> CudaNf4Linear:
        """A layer over `weight`, repacked; the original may be dropped."""
        return CudaNf4Linear(self, pack(weight))

    @property
    def nbytes(self) -> int:
        """Device memory beside the weights: workspace and scratch."""
        return self._kernels.nbytes + self._scratch.nbytes

    def multiply(self, weight: PackedNf4, x: torch.Tensor, out: torch.Tensor) -> None:
        """`x` [tokens, in] bf16 times the weight → `out` [tokens, out] bf16, both contiguous."""
        if self.unpacks(weight, len(x)):
            for start, dense in self.pieces(weight):
                torch.mm(x, dense.T, out=out[:, start : start + len(dense)])
            return
        at_once = self._at_once(weight)
        for start in range(0, len(x), at_once):
            rows = slice(start, start + at_once)
            self._multiply_few(weight, x[rows], out[rows])

    def unpacks(self, weight: PackedNf4, tokens: int) -> bool:
        """Whether so many rows are multiplied by cuBLAS, with what is dequantized before."""
        if self._mode == "batch-invariant":
            return False
        return tokens > MAX_PIECES * self._at_once(weight)

    def pieces(self, weight: PackedNf4, *, room: int = 0) -> Iterator[tuple[int, torch.Tensor]]:
        """Dequantize some rows after others: the first one's number, and all [rows, in + room].

        In memory that is used again for the next; the last columns are left as they are found.
        """
        width = weight.in_features + room
        at_once = self._scratch.numel() // width // BAND * BAND
        for start in range(0, weight.out_features, at_once):
            rows = min(at_once, weight.out_features - start)
            dense = self._scratch[: rows * width].view(rows, width)
            self._kernels.dequantize(weight, start, dense)
            yield start, dense

    def _uses_wgmma(self, weight: PackedNf4) -> bool:
        return self._kernels.gpu.has_wgmma and weight.in_features % WGMMA_DEPTH == 0

    def _at_once(self, weight: PackedNf4) -> int:
        """Rows of a launch that decodes as it multiplies."""
        wide = self._uses_wgmma(weight) and self._mode != "batch-invariant"
        return WIDE_TOKENS if wide else MAX_TOKENS

    def _multiply_few(self, weight: PackedNf4, x: torch.Tensor, out: torch.Tensor) -> None:
        if self._uses_wgmma(weight) and len(x) >= self._wgmma_from:
            self._kernels.wgmma(self._wgmma_shape(weight, len(x)), weight, x, out)
        else:
            self._kernels.mma(self._shapes[column_tiles(len(x))], weight, x, out)

    def _wgmma_shape(self, weight: PackedNf4, tokens: int) -> WgmmaShape:
        if tokens > MAX_TOKENS:
            return WgmmaShape(WIDE_TOKENS, 1)
        return WgmmaShape(wgmma_tokens(tokens), self._kernels.bands(weight))
