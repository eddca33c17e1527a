"""The gated activation of Mistral's MLP in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs

BLOCK = 1024


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up` for `gate_up` [tokens, 2 · intermediate], gate first; rounds after each."""
    tokens, width = gate_up.shape
    intermediate = width // 2
    product = torch.empty(tokens, intermediate, dtype=gate_up.dtype, device=gate_up.device)
    grid = (tokens, triton.cdiv(intermediate, BLOCK))
    early = starts_early(gate_up)
    _silu_mul_kernel[grid](
        product, gate_up, intermediate, block=BLOCK, early=early, num_warps=4, launch_pdl=early
    )
    return product


@triton.jit
def _silu_mul_kernel(product, gate_up, intermediate, block: tl.constexpr, early: tl.constexpr):
    let_next_start(early)
    wait_for_inputs(early)
    row = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * block + tl.arange(0, block)
    inside = feature < intermediate
    gate_at = gate_up + row * 2 * intermediate + feature
    stored = tl.load(gate_at, mask=inside, other=0.0)
    up = tl.load(gate_at + intermediate, mask=inside, other=0.0)
    gate = stored.to(tl.float32)
    activated = (gate / (1.0 + tl.exp(-gate))).to(stored.dtype)
    multiplied = activated.to(tl.float32) * up.to(tl.float32)
    tl.store(product + row * intermediate + feature, multiplied, mask=inside)
