"""Programmatic dependent launch: a kernel's programs start while the kernel before still runs.

They may read what no kernel of the step writes (weights, tables, tiles) at once, and must call
`wait_for_inputs` before they touch anything else, every program of them. Hopper and newer;
elsewhere kernels start in turn.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from triton.language.extra import cuda

FIRST_CAPABILITY = (9, 0)


def starts_early(tensor: torch.Tensor) -> bool:
    """Whether kernels on this tensor's device can be launched so."""
    return tensor.is_cuda and _capability(tensor.device) >= FIRST_CAPABILITY


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@triton.jit
def let_next_start(early: tl.constexpr):
    """Let the next kernel's programs take what room this one's leave."""
    if early:
        cuda.gdc_launch_dependents()


@triton.jit
def wait_for_inputs(early: tl.constexpr):
    """Go on when everything that earlier kernels wrote is there."""
    if early:
        cuda.gdc_wait()


@triton.jit
def prefetch(pointers, mask, early: tl.constexpr):
    """Bring the cache lines at `pointers` into L2 while earlier kernels still run."""
    if early:
        tl.inline_asm_elementwise(
            """
            {
                .reg .pred wanted;
                setp.ne.s32 wanted, $2, 0;
                @wanted prefetch.global.L2 [$1];
                mov.u32 $0, 0;
            }
            """,
            "=r,l,r",
            [pointers.to(tl.int64), mask.to(tl.int32)],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
