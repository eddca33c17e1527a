"""Cross entropy from hidden states, chunk by chunk: the logits of all tokens never exist at once.

For 8 rows of 2,048 tokens and a vocabulary of 32,768 they would take 2 GiB in fp32, and their
gradient as much again.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from .samples import IGNORED

CHUNK = 1024  # tokens


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, *, chunk: int = CHUNK
) -> torch.Tensor:
    """The summed cross entropy of `hidden` [tokens, d] @ `weight` [vocab, d] transposed.

    `labels` [tokens]; `IGNORED` ones count nothing, and their logits are not computed. Gradients
    are worked out on the way forward, while a chunk's logits are there (as liger-kernel does).
    """
    learned = labels != IGNORED
    total: torch.Tensor = _Chunked.apply(hidden[learned], weight, labels[learned], chunk)  # type: ignore[no-untyped-call]
    return total


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        total = hidden.new_zeros((), dtype=torch.float32)
        of_hidden = torch.empty_like(hidden)
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            logits = F.linear(hidden[rows], weight.to(hidden.dtype)).float()  # [chunk, vocab]
            total += F.cross_entropy(logits, labels[rows], reduction="sum")
            if not (needs_hidden or needs_weight):
                continue
            # The gradient of the logits is softmax less one at the label.
            gradient = logits.softmax(dim=-1)
            gradient[torch.arange(len(gradient), device=gradient.device), labels[rows]] -= 1
            of_hidden[rows] = (gradient.to(hidden.dtype) @ weight.to(hidden.dtype)).to(hidden.dtype)
            if of_weight is not None:
                of_weight += gradient.t() @ hidden[rows].float()
        ctx.gradients = of_hidden, of_weight
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight = ctx.gradients
        weight = None if weight is None else (weight * scale).to(ctx.weight_dtype)
        return hidden * scale.to(hidden.dtype), weight, None, None
