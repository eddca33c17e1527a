"""Linear layers over the resident base: NF4, or dense where memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch.nn.functional import linear

NF4_BLOCK = 64


def multiply(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`x` [tokens, in] @ `weight` [out, in] transposed; a row's result is the same in any company.

    A row by itself is multiplied as one of two: alone, CPU libraries sum a long one (SmolLM2's
    1,536 features in bf16) in another order. It costs nothing where reading the weight does.
    """
    if len(x) != 1:
        return linear(x, weight)
    return linear(x.expand(2, -1), weight)[:1]


class Linear(Protocol):
    """A weight [out_features, in_features] that multiplies rows, and says what it costs to hold."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [tokens, in_features] → [tokens, out_features], in x's dtype."""
        ...

    @property
    def out_features(self) -> int: ...

    @property
    def nbytes(self) -> int: ...


@runtime_checkable
class Unpacking(Linear, Protocol):
    """A weight in few bits that is unpacked, piece by piece, to multiply many rows."""

    def unpacks(self, tokens: int) -> bool:
        """Whether so many rows are multiplied so."""
        ...

    def pieces(self, dtype: torch.dtype, *, room: int) -> Iterator[tuple[int, torch.Tensor]]:
        """The first row of each piece, and the piece [rows, in_features + room].

        Its last columns are for the caller to write; the next piece takes its place.
        """
        ...


@dataclass(frozen=True)
class DenseLinear:
    """A weight kept as it is multiplied."""

    weight: torch.Tensor  # [out_features, in_features]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return multiply(x, self.weight)

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes


@dataclass(frozen=True)
class Nf4Weight:
    """One NF4 tensor as bitsandbytes makes it, its block scales already decoded to fp32.

    codes: [out · in / 2] uint8, two weights a byte. absmax: [out · in / 64] fp32, decoded from the
    8-bit double quantization once at load (`code[u8] · absmax2 + offset`); that costs 0.37 bit a
    weight more than the nested form and saves a kernel per layer and step.
    """

    codes: torch.Tensor
    absmax: torch.Tensor
    out_features: int
    in_features: int

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """The weights QLoRA trained against: `bitsandbytes.functional.dequantize_4bit`'s values.

        Asked for in rows of one block: bitsandbytes 0.50.2 on CPU takes the wrong scales when a
        row is no multiple of 64 long.
        """
        blocks: torch.Tensor = torch.ops.bitsandbytes.dequantize_4bit(
            self.codes, self.absmax, NF4_BLOCK, "nf4", [len(self.absmax), NF4_BLOCK], dtype
        )
        return blocks.view(self.out_features, self.in_features)

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.absmax.nbytes


@dataclass(frozen=True)
class Nf4Linear:
    """An NF4 weight that stays 4-bit: each call dequantizes it, multiplies, and drops the copy."""

    weight: Nf4Weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return multiply(x, self.weight.dequantize(x.dtype))

    def unpacks(self, tokens: int) -> bool:  # noqa: ARG002  it always does
        return True

    def pieces(self, dtype: torch.dtype, *, room: int) -> Iterator[tuple[int, torch.Tensor]]:
        dense = self.weight.dequantize(dtype)
        piece = dense.new_empty(len(dense), dense.shape[1] + room)
        piece[:, : dense.shape[1]] = dense
        yield 0, piece

    @property
    def out_features(self) -> int:
        return self.weight.out_features

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes


def merge(weights: Sequence[Nf4Weight]) -> Nf4Weight:
    """Stack weights of one input (q, k, v; gate, up) into one, losslessly.

    Raises ValueError if a quantization block of 64 would straddle two of them.
    """
    if any(w.out_features * w.in_features % NF4_BLOCK for w in weights):
        raise ValueError(f"weights to merge must hold whole blocks of {NF4_BLOCK}")
    return Nf4Weight(
        codes=torch.cat([w.codes.reshape(-1) for w in weights]),
        absmax=torch.cat([w.absmax for w in weights]),
        out_features=sum(w.out_features for w in weights),
        in_features=weights[0].in_features,
    )
