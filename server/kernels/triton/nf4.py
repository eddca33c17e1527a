"""NF4 products where CUDA C++ is not to be had; the twin is `server.kernels.cuda.nested.multiply`.

Exact: every weight is what bitsandbytes' `dequantize_4bit` gives. Reads bitsandbytes' own order of
codes, so nothing is repacked. A row's sum does not depend on the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from server.kernels.cuda.nested import NF4_TABLE, NestedNf4Weight

ROWS = 64  # output features of a program
BLOCK = 64  # weights that share a scale
MAX_TOKENS = 64  # rows of x in a program
PROGRAMS = 256  # aimed at, by splitting the depth
DENSE_FROM = 257  # tokens; from here on one dequantization costs less than decoding for each 64


@dataclass(frozen=True)
class TritonNf4Linear:
    """An NF4 weight that Triton multiplies with; a `server.kernels.linear.Linear`.

    table: [16] fp32, the values of NF4, on the weight's device.
    """

    weight: NestedNf4Weight
    table: torch.Tensor

    @classmethod
    def of(cls, weight: NestedNf4Weight) -> TritonNf4Linear:
        return cls(weight, torch.tensor(NF4_TABLE, device=weight.codes.device))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out = x.new_empty(len(x), self.weight.out_features)
        self.into(x, out)
        return out

    def into(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """`x` [tokens, in_features] → `out` [tokens, out_features], contiguous, of one dtype."""
        if len(x) >= DENSE_FROM:
            torch.mm(x, self.dequantize(x.dtype).T, out=out)
            return
        for start in range(0, len(x), MAX_TOKENS):
            rows = slice(start, start + MAX_TOKENS)
            self._multiply(x[rows], out[rows])

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """[out_features, in_features] in `dtype`."""
        weight = self.weight
        dense = weight.codes.new_empty(weight.out_features, weight.in_features, dtype=dtype)
        grid = (triton.cdiv(weight.out_features, ROWS), weight.in_features // BLOCK)
        _dequantize_kernel[grid](
            *self._operands(), dense, weight.out_features, weight.in_features, weight.group_shift,
            rows=ROWS, block=BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
        return dense

    @property
    def out_features(self) -> int:
        return self.weight.out_features

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    def _multiply(self, x: torch.Tensor, out: torch.Tensor) -> None:
        weight, tokens = self.weight, len(x)
        tiles, blocks = triton.cdiv(weight.out_features, ROWS), weight.in_features // BLOCK
        splits = max(1, min(blocks, PROGRAMS // tiles))
        parts = x.new_empty(splits, tokens, weight.out_features, dtype=torch.float32)
        _multiply_kernel[(tiles, splits)](
            *self._operands(), x, parts, tokens, weight.out_features, weight.in_features,
            weight.group_shift, splits,
            rows=ROWS, block=BLOCK, columns=max(16, triton.next_power_of_2(tokens)),
            enable_fp_fusion=False,
        )  # fmt: skip
        count = tokens * weight.out_features
        _add_parts_kernel[(triton.cdiv(count, 1024),)](parts, out, count, splits, at_once=1024)

    def _operands(self) -> tuple[torch.Tensor, ...]:
        weight = self.weight
        return weight.codes, weight.scales, weight.scale_table, weight.groups, self.table


@triton.jit
def _decode(
    codes, scales, scale_table, groups, table, row, inside, block_index, in_features, group_shift,
    rows: tl.constexpr, block: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """The even and the odd weights of one block of each row: two [rows, block / 2]."""
    pair = tl.arange(0, block // 2)
    position = row.to(tl.int64) * (in_features // 2) + block_index * (block // 2)
    byte = tl.load(codes + position[:, None] + pair[None, :], mask=inside[:, None], other=0)
    at = row * (in_features // block) + block_index
    code = tl.load(scale_table + tl.load(scales + at, mask=inside, other=0).to(tl.int32))
    group = groups + (at >> group_shift) * 2
    absmax = tl.load(group, mask=inside, other=0.0)
    scale = (code * absmax + tl.load(group + 1, mask=inside, other=0.0))[:, None]
    value = tl.load(table + tl.arange(0, 16))
    flat = tl.reshape(byte.to(tl.int32), (rows * block // 2,))
    even = tl.reshape(tl.gather(value, flat >> 4, 0), (rows, block // 2))
    odd = tl.reshape(tl.gather(value, flat & 15, 0), (rows, block // 2))
    return (even * scale).to(dtype), (odd * scale).to(dtype)


@triton.jit
def _multiply_kernel(
    codes, scales, scale_table, groups, table, x, parts, tokens, out_features, in_features,
    group_shift, splits, rows: tl.constexpr, block: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    split = tl.program_id(1)
    token = tl.arange(0, columns)
    pair = tl.arange(0, block // 2)
    inside = row < out_features
    present = token < tokens
    blocks = in_features // block
    total = tl.zeros((rows, columns), tl.float32)
    for index in range(blocks * split // splits, blocks * (split + 1) // splits):
        even, odd = _decode(
            codes, scales, scale_table, groups, table, row, inside, index, in_features,
            group_shift, rows, block, x.dtype.element_ty,
        )  # fmt: skip
        at = x + token[None, :] * in_features + index * block + pair[:, None] * 2
        x_even = tl.load(at, mask=present[None, :], other=0.0)
        x_odd = tl.load(at + 1, mask=present[None, :], other=0.0)
        total = tl.dot(even, x_even, total, input_precision="ieee")
        total = tl.dot(odd, x_odd, total, input_precision="ieee")
    to = (split * tokens + token[None, :]).to(tl.int64) * out_features + row[:, None]
    tl.store(parts + to, total, mask=inside[:, None] & present[None, :])


@triton.jit
def _add_parts_kernel(parts, out, count, splits, at_once: tl.constexpr):
    """Always from the first part to the last, so that the result is the same in every run."""
    at = tl.program_id(0) * at_once + tl.arange(0, at_once)
    inside = at < count
    total = tl.zeros((at_once,), tl.float32)
    for split in range(splits):
        total += tl.load(parts + split * count + at, mask=inside, other=0.0)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _dequantize_kernel(
    codes, scales, scale_table, groups, table, dense, out_features, in_features, group_shift,
    rows: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    index = tl.program_id(1)
    inside = row < out_features
    even, odd = _decode(
        codes, scales, scale_table, groups, table, row, inside, index, in_features, group_shift,
        rows, block, dense.dtype.element_ty,
    )  # fmt: skip
    feature = index * block + tl.arange(0, block)
    to = dense + row.to(tl.int64)[:, None] * in_features + feature[None, :]
    tl.store(to, tl.interleave(even, odd), mask=inside[:, None])
