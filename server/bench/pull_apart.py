"""Where the time of one decode step goes, by the profiler's kernel times."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

KINDS: Mapping[str, tuple[str, ...]] = {
    "NF4 products": ("nf4", "dequantize"),
    "LoRA": ("shrink", "expand", "lora"),
    "attention": ("decode_kernel", "merge_kernel", "prefill_kernel", "attention"),
    "norms": ("norm",),
    "RoPE, KV write": ("rotate",),
    "SiLU": ("silu",),
    "dense products": ("gemm", "cublas", "nvjet", "cutlass", "splitk"),
}
OTHER = "other"


@dataclass(frozen=True)
class PulledApart:
    """Microseconds of one step: by kind of kernel, of the whole on the wall, and not in kernels.

    gaps are negative where kernels overlap one another.
    """

    by_kind: Mapping[str, float]
    by_kernel: Mapping[str, float]
    wall: float
    num_kernels: int

    @property
    def gaps(self) -> float:
        return self.wall - sum(self.by_kind.values())


def pull_apart(step: Callable[[], object], *, repeats: int = 20) -> PulledApart:
    """Run a step by itself, timed without the profiler and then under it."""
    step()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        step()
    torch.cuda.synchronize()
    wall = (time.perf_counter() - started) / repeats * 1e6
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(repeats):
            step()
        torch.cuda.synchronize()
    by_kind: Counter[str] = Counter()
    by_kernel: Counter[str] = Counter()
    count = 0
    for event in profiler.events() or ():
        if event.device_type == DeviceType.CUDA:
            by_kind[kind_of(event.name)] += event.device_time / repeats
            by_kernel[event.name[:60]] += event.device_time / repeats
            count += 1
    return PulledApart(by_kind, by_kernel, wall, count // repeats)


def kind_of(kernel: str) -> str:
    """What a kernel is for, by its name."""
    name = kernel.lower()
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return OTHER
