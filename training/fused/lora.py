"""A frozen product and the low-rank one beside it, as one step forward and one backward.

y = x Wᵀ + s · dropout(x) Aᵀ Bᵀ (LoRA, arXiv 2106.09685, section 4.1). PEFT's own layer keeps the
mask of its dropout and what that left, in 16 bits; here only x and x Aᵀ [tokens, r] are kept, W is
made dense once in each direction, and both products add up inside one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear

from .dropout import add_dropped, draw_seed, dropped
from .weights import FrozenWeight


@dataclass(frozen=True)
class Beside:
    """What goes with a product: W, the update's scale, its dropout, and the factors' dtype.

    With `unused` nobody reads the product's own part: a checkpointed layer computes its last
    product again only for what that keeps.
    """

    weight: FrozenWeight
    scaling: float
    dropout: float
    dtype: torch.dtype
    unused: bool = False


def lora_product(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, how: Beside) -> torch.Tensor:
    """`x` [..., in], `a` [r, in], `b` [out, r] → [..., out] in what the frozen layer gives."""
    product: torch.Tensor = _LoraProduct.apply(x, a, b, how)  # type: ignore[no-untyped-call]
    return product


def frozen_product(x: torch.Tensor, weight: FrozenWeight) -> torch.Tensor:
    """`x` [..., in] → [..., out] in x's dtype; W is made dense once in each direction."""
    product: torch.Tensor = _FrozenProduct.apply(x, weight)  # type: ignore[no-untyped-call]
    return product


class _LoraProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, how: Beside
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        seed = draw_seed() if how.dropout else 0
        dtype = how.weight.dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            narrow = linear(_dropped(rows.to(how.dtype), how, seed), a.to(how.dtype))
            if how.unused:
                product = rows.new_empty((len(rows), how.weight.out_features), dtype=dtype)
            else:
                product = linear(rows.to(dtype), how.weight.dense(dtype))
                product = _added(product, narrow, b.to(how.dtype).t(), how.scaling)
        ctx.save_for_backward(rows, narrow, a, b)
        ctx.how, ctx.seed, ctx.shape, ctx.dtype = how, seed, x.shape, dtype
        return product.view(*x.shape[:-1], -1).to(how.weight.out_dtype(x))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, narrow, a, b = ctx.saved_tensors
        how: Beside = ctx.how
        gradient = gradient.reshape(-1, gradient.shape[-1])
        low = gradient.to(how.dtype)
        of_narrow = (low @ b.to(how.dtype)).mul_(how.scaling)  # [tokens, r]
        of_b = (low.t() @ narrow).to(b.dtype).mul_(how.scaling)
        of_a = (of_narrow.t() @ _dropped(rows.to(how.dtype), how, ctx.seed)).to(a.dtype)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = gradient.to(ctx.dtype) @ how.weight.dense(ctx.dtype)
            if how.dropout:
                of_x = add_dropped(of_x, of_narrow @ a.to(how.dtype), how.dropout, ctx.seed)
            else:
                of_x = _added(of_x, of_narrow, a.to(how.dtype), 1.0)
            of_x = of_x.view(ctx.shape).to(rows.dtype)
        return of_x, of_a, of_b, None


class _FrozenProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: FrozenWeight) -> torch.Tensor:
        dtype = weight.dtype(x)
        ctx.weight, ctx.dtype, ctx.x_dtype = weight, dtype, x.dtype
        with torch.autocast(x.device.type, enabled=False):
            product = linear(x.to(dtype), weight.dense(dtype))
        return product.to(weight.out_dtype(x))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        of_x = gradient.to(ctx.dtype) @ ctx.weight.dense(ctx.dtype)
        return of_x.to(ctx.x_dtype), None


def _dropped(rows: torch.Tensor, how: Beside, seed: int) -> torch.Tensor:
    return dropped(rows, how.dropout, seed) if how.dropout else rows


def _added(
    total: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scaling: float
) -> torch.Tensor:
    """`total` + scaling · left @ right, rounded once where all have one dtype."""
    if left.dtype == total.dtype:
        return total.addmm_(left, right, alpha=scaling)
    return total.add_((left @ right).to(total.dtype), alpha=scaling)
