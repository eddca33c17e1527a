"""The NF4 kernels of one device, compiled when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from server.kernels.cuda.compiler import Compiler
from server.kernels.cuda.gpu import Gpu
from server.kernels.cuda.kernel import CudaKernel, Grid
from server.kernels.cuda.packing import BAND, PackedNf4
from server.kernels.cuda.shapes import MAX_TOKENS, MMA_ROWS, WIDE_TOKENS, MmaShape, Mode, WgmmaShape
from server.kernels.cuda.tensor_map import tensor_map

MAX_CLUSTER = 8  # blocks; larger clusters are not portable
MAX_TILES = 8192  # of 128 rows: over a million output features
MIN_STEPS = 8  # of 128 weights, which a block of a cluster should take at least


class Nf4Kernels:
    """Launches the three kernels; owns the workspace in which blocks leave parts of their sums.

    A workspace serves one launch after another on one stream.
    """

    def __init__(self, device: torch.device, mode: Mode, cache: Path | None) -> None:
        self.gpu = Gpu.of(device)
        self._device = device
        self._exact = mode != "fast"
        self._compiler = Compiler(self.gpu.arch, cache)
        self._loaded: dict[tuple[str, tuple[tuple[str, int], ...]], CudaKernel] = {}
        self._clusters: dict[tuple[int, int, int], int] = {}
        parts = 2 * self.gpu.multiprocessors
        self._partials = torch.empty(parts * MAX_TOKENS * MMA_ROWS, device=device)
        self._arrivals = torch.zeros(MAX_TILES, dtype=torch.int32, device=device)

    @property
    def nbytes(self) -> int:
        return self._partials.nbytes + self._arrivals.nbytes

    def mma(self, shape: MmaShape, weight: PackedNf4, x: torch.Tensor, out: torch.Tensor) -> None:
        """Stream-K on tensor cores: `x` [tokens ≤ 8 · column tiles, in] times the weight."""
        steps = -(-weight.out_features // shape.rows) * -(-weight.blocks // shape.step_blocks)
        grid = Grid((min(self.gpu.multiprocessors, steps), 1), shape.threads)
        self.mma_kernel(shape).launch(
            grid,
            (
                weight.codes, weight.scales, weight.scale_table, weight.groups, x, out,
                self._partials, self._arrivals, len(x), weight.out_features,
                weight.in_features, weight.group_shift,
            ),
        )  # fmt: skip

    def wgmma(
        self, shape: WgmmaShape, weight: PackedNf4, x: torch.Tensor, out: torch.Tensor
    ) -> None:
        """Hopper's warpgroup products and cluster split-K; in_features a multiple of 128."""
        tiles = -(-weight.out_features // shape.rows)
        cluster = self.cluster_size(shape.bands, tiles, weight.blocks // 2)
        grid = Grid((tiles * cluster, 1), shape.threads, cluster)
        self.wgmma_kernel(shape).launch(
            grid,
            (
                weight.codes, weight.scales, weight.scale_table, weight.groups,
                tensor_map(x, shape.tokens), out, len(x), weight.out_features,
                weight.in_features, weight.group_shift,
            ),
        )  # fmt: skip

    def dequantize(self, weight: PackedNf4, first_row: int, out: torch.Tensor) -> None:
        """Rows from `first_row` (a multiple of 128) as bf16 into `out` [rows, in_features or more].

        Its rows are a multiple of 8 elements apart. What follows may begin once those are being
        written, and so once all before is there.
        """
        rows = len(out)
        self.dequantize_kernel().launch(
            Grid((weight.blocks, -(-rows // 128)), 256),
            (
                weight.codes, weight.scales, weight.scale_table, weight.groups, out,
                first_row, rows, weight.in_features, out.stride(0), weight.group_shift,
            ),
        )  # fmt: skip

    def bands(self, weight: PackedNf4) -> int:
        """Two bands a tile, so that x is read half as often, where the work suffices for it."""
        steps = weight.blocks // 2
        tiles = -(-weight.out_features // (2 * BAND))
        return 2 if steps // self.cluster_size(2, tiles, steps) >= MIN_STEPS else 1

    def cluster_size(self, bands: int, tiles: int, steps: int) -> int:
        """Blocks that share a tile: as many as the device holds at once for all tiles.

        The number of tokens has no part in it, so that a row's sum does not depend on it.
        """
        key = (bands, tiles, steps)
        if key not in self._clusters:
            self._clusters[key] = self._largest_cluster(bands, tiles, steps)
        return self._clusters[key]

    def _largest_cluster(self, bands: int, tiles: int, steps: int) -> int:
        shape = WgmmaShape(MAX_TOKENS, bands)
        kernel = self.wgmma_kernel(shape)
        for size in range(min(MAX_CLUSTER, steps), 1, -1):
            if kernel.max_clusters(Grid((tiles * size, 1), shape.threads, size)) >= tiles:
                return size
        return 1

    def mma_kernel(self, shape: MmaShape) -> CudaKernel:
        constants = shape.constants(self.gpu.product_bytes, exact=self._exact)
        return self._kernel("nf4_mma", constants, self.gpu.product_bytes)

    def wgmma_kernel(self, shape: WgmmaShape) -> CudaKernel:
        exact = self._exact or shape.tokens == WIDE_TOKENS  # whose fast form spills registers
        constants = shape.constants(self.gpu.product_bytes, exact=exact)
        return self._kernel("nf4_wgmma", constants, self.gpu.product_bytes)

    def dequantize_kernel(self) -> CudaKernel:
        return self._kernel("nf4_dequantize", {}, shared_bytes=0)

    def _kernel(self, name: str, constants: Mapping[str, int], shared_bytes: int) -> CudaKernel:
        key = (name, tuple(constants.items()))
        if key not in self._loaded:
            self._loaded[key] = CudaKernel(
                self._compiler.cubin(f"{name}.cu", constants),
                name,
                self._device,
                shared_bytes=shared_bytes,
                overlap=self.gpu.overlaps_launches,
            )
        return self._loaded[key]
