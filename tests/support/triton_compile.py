"""Compile every Triton kernel for a device that is not there, by calling it on CPU tensors.

    python -m tests.support.triton_compile 90

prints one line a kernel: its name, what it takes of shared memory (bytes), and its registers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
import triton
from bitsandbytes.functional import quantize_4bit
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from server.kernels.linear import Nf4Linear, Nf4Weight
from server.kernels.rope import RopeTable
from server.kernels.triton import (
    activation,
    adapted_gate,
    adapted_product,
    attention,
    lora,
    norm,
    prefill,
    rope,
    sampling,
    tokens,
    unpack,
)
from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.pieces import Pieces
from server.kernels.triton.room import ROOM, empty_rows
from server.kernels.triton.tiles import DECODE_ROWS, PROMPT_ROWS, LoraTiles
from tests.support.kernel_cases import (
    make_cache,
    make_chunks,
    make_sampling,
    make_site,
    make_tables,
    normal,
)
from training.fused.kernels import dropout as train_dropout
from training.fused.kernels import gate as train_gate
from training.fused.kernels import nf4 as train_nf4
from training.fused.kernels import norm as train_norm
from training.fused.kernels import rotary as train_rotary

FP8_CAPABILITY = 89


class AbsentDevice:
    """As much of a driver as the compiler asks for."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int) -> int:
        return 0

    def get_device_properties(self, _device: int) -> dict[str, int]:
        return {"max_shared_mem": 232448, "multiprocessor_count": 132}


def compile_only(kernel: JITFunction[Any], grid: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> None:
        compiled = kernel.run(*args, grid=grid, warmup=True, **kwargs)
        print(kernel.fn.__name__, compiled.metadata.shared, compiled.metadata.num_warps)

    return call


def call_all(dtype: torch.dtype, cache_dtypes: Sequence[torch.dtype]) -> None:
    """One call of every kernel at shapes that take its branches."""
    site = make_site([[16, 16, 16]], 512, (256, 128, 128), dtype=dtype)
    for tile_rows in (DECODE_ROWS, PROMPT_ROWS):
        lora.add_lora(
            normal(4, 512, dtype=dtype),
            normal(4, 512, dtype=dtype),
            site,
            LoraTiles.of([0] * 4, tile_rows),
        )
    tables, blocks = make_tables([32, 32])
    query, lengths = normal(2, 8, 128, dtype=dtype), torch.tensor([32, 32], dtype=torch.int32)
    for kind in (dtype, *cache_dtypes):
        cache = make_cache(blocks, 2, 128, dtype=kind)
        for splits in (1, 4):
            attention.decode_attention(query, cache, tables, lengths, splits=splits)
        prefill.prefill_attention(query, cache, make_chunks([(2, 32)])[0], window=8)
        rope.rotate_and_write(
            normal(2, 12 * 128, dtype=dtype),
            RopeTable.build(head_dim=128, num_positions=64, theta=1e4, like=query),
            torch.tensor([0, 1]),
            torch.tensor([0, 1]),
            cache,
        )
    x, weight = normal(2, 4096, dtype=dtype), normal(4096, dtype=dtype)
    norm.rms_norm(x, weight, 1e-5)
    norm.add_rms_norm(x, x, weight, 1e-5)
    activation.silu_mul(x)
    pieces = Pieces(torch.tensor([[0, 0, 4, 64, 1]]), torch.ones(1), 256)
    for stored in (torch.bfloat16, torch.float16, torch.float32):
        unpack.unpack(x[0], normal(256, dtype=stored), pieces)
    sampling.argmax(x)
    tokens.known_tokens(torch.tensor([1, -1]), torch.tensor([2]))
    call_adapted(dtype)
    adapted_gate.adapted_silu_mul(
        normal(4, 512, dtype=dtype),
        normal(4, 512, dtype=dtype),
        make_site([[16, 16]], 512, (256, 256), dtype=dtype),
        LoraTiles.of([0] * 4, PROMPT_ROWS),
    )
    call_shared(dtype)
    sampling.sample(x, make_sampling([(1.0, 0, 1.0, 0.0)] * 2), torch.tensor([0, 1]))


def call_adapted(dtype: torch.dtype) -> None:
    """What decode steps do with adapters."""
    like = normal(2, 4096, dtype=dtype)
    tiles, row_slots = LoraTiles.of([0, 0], DECODE_ROWS), torch.zeros(2, dtype=torch.int32)

    def delta(*widths: int) -> LoraDelta:
        site = make_site([[16] * len(widths)], 4096, widths, dtype=dtype)
        return lora.shrink_beside(like, site, tiles, row_slots)

    norm.add_rms_norm(like, like, like[0], 1e-5, delta=delta(4096))
    activation.silu_mul(like, delta=delta(2048, 2048))
    rope.rotate_and_write(
        normal(2, 12 * 128, dtype=dtype),
        RopeTable.build(head_dim=128, num_positions=64, theta=1e4, like=like),
        torch.tensor([0, 1]),
        torch.tensor([0, 1]),
        make_cache(3, 2, 128, dtype=dtype),
        delta=delta(1024, 256, 256),
    )


def call_shared(dtype: torch.dtype) -> None:
    """What prompts of one adapter do."""
    x = empty_rows(normal(4, 1, dtype=dtype), 512, ROOM)
    weight = Nf4Weight(torch.zeros(256 * 512 // 2, dtype=torch.uint8), torch.ones(2048), 256, 512)
    for widths in ((256,), (128, 128), (128, 64, 64)):
        site = make_site([[16] * len(widths)], 512, widths, dtype=dtype)
        tiles = LoraTiles.of([0] * 4, PROMPT_ROWS)
        adapted_product.adapted_product(x, Nf4Linear(weight), site, tiles)


def call_training(dtype: torch.dtype) -> None:
    """What fused layers do forward and backward."""
    x, weight = normal(2, 4096, dtype=dtype), normal(4096, dtype=dtype)
    train_norm.normalise(x, weight, 1e-5)
    train_norm.normalise_back(x, x, weight, torch.ones(2))
    train_gate.multiply(x, x)
    train_gate.multiply_back(x, x, x)
    train_rotary.turn(normal(2, 4, 128, dtype=dtype), x[:, :128], x[:, :128])
    train_dropout.dropped(x, 0.1, 3)
    train_dropout.add_dropped(x, x, 0.1, 3)
    for nested in (False, True):
        train_nf4.dequantize(*quantize_4bit(x, compress_statistics=nested, quant_type="nf4"))


def main() -> None:
    capability = int(sys.argv[1])
    modules = (activation, adapted_gate, attention, lora, norm, prefill, rope, sampling)
    for module in (adapted_product, *modules):
        module.starts_early = lambda _tensor: capability >= 90  # type: ignore[attr-defined]
    triton.runtime.driver.set_active(AbsentDevice(capability))
    JITFunction.__getitem__ = compile_only  # type: ignore[method-assign]
    for dtype in (torch.bfloat16, torch.float32):
        call_all(dtype, [torch.float8_e4m3fn] if capability >= FP8_CAPABILITY else [])
        call_training(dtype)


if __name__ == "__main__":
    main()
