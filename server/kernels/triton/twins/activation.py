"""The gated activation: the plain-torch function that the CPU runs, behind what adapters add."""

from __future__ import annotations

import torch

from server.kernels import activation
from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.room import empty_rows
from server.kernels.triton.twins.lora import expanded


def silu_mul(
    gate_up: torch.Tensor, *, delta: LoraDelta | None = None, room: int = 0
) -> torch.Tensor:
    """`silu(gate) * up` for `gate_up` [tokens, 2 · intermediate], gate first; rounds after each.

    delta: what adapters add to `gate_up` before, rounded once; `gate_up` itself stays as it is.
    room: columns that each row of the result has behind it.
    """
    product = activation.silu_mul(expanded(gate_up, delta))
    return empty_rows(product, product.shape[1], room).copy_(product)
