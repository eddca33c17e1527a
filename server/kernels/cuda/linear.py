"""A linear layer over an NF4 weight on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from server.kernels.cuda.packing import PackedNf4


class Gemm(Protocol):
    """What multiplies rows with a packed weight."""

    def multiply(self, weight: PackedNf4, x: torch.Tensor, out: torch.Tensor) -> None: ...
    def unpacks(self, weight: PackedNf4, tokens: int) -> bool: ...
    def pieces(self, weight: PackedNf4, *, room: int) -> Iterator[tuple[int, torch.Tensor]]: ...


@dataclass(frozen=True)
class CudaNf4Linear:
    """A packed weight and the GEMM that multiplies with it; a `server.kernels.linear.Linear`."""

    gemm: Gemm
    weight: PackedNf4

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out = x.new_empty(len(x), self.weight.out_features)
        self.into(x, out)
        return out

    def into(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """`x` [tokens, in_features] bf16 → `out` [tokens, out_features] bf16, both contiguous."""
        assert x.dtype == out.dtype == torch.bfloat16
        assert x.is_contiguous()
        assert out.is_contiguous()
        assert x.shape[1] == self.weight.in_features
        self.gemm.multiply(self.weight, x, out)

    def unpacks(self, tokens: int) -> bool:
        """Whether so many rows are multiplied by cuBLAS."""
        return self.gemm.unpacks(self.weight, tokens)

    def pieces(self, dtype: torch.dtype, *, room: int) -> Iterator[tuple[int, torch.Tensor]]:
        """What cuBLAS multiplies with: `server.kernels.linear.Unpacking`'s, in bf16 alone."""
        assert dtype == torch.bfloat16
        return self.gemm.pieces(self.weight, room=room)

    @property
    def out_features(self) -> int:
        return self.weight.out_features

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes
