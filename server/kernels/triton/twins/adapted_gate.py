"""The gated activation of prompts behind what adapters add to it: the definition."""

from __future__ import annotations

import torch

from server.kernels import activation
from server.kernels.triton.site import LoraSite
from server.kernels.triton.tiles import LoraTiles
from server.kernels.triton.twins.lora import add_lora


def adapted_silu_mul(
    gate_up: torch.Tensor, x: torch.Tensor, site: LoraSite, tiles: LoraTiles
) -> torch.Tensor:
    """`silu(gate) * up` of `gate_up` [rows, 2 · intermediate] plus each row's own `B(A(x))`.

    A(x) is rounded to the compute dtype, the sum with `gate_up` once. Every row has to be in a
    tile, rows of the bare base in tiles of slot -1: others of the product [rows, intermediate] are
    left as they are found.
    """
    adapted = gate_up.clone()
    add_lora(adapted, x, site, tiles)
    return activation.silu_mul(adapted)
