"""Root-mean-square normalisation."""

from __future__ import annotations

import torch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Normalise each row of `x` [tokens, hidden] by its root mean square, then scale by `weight`.

    Computed in fp32 and rounded once before the scale, as transformers' MistralRMSNorm does.
    """
    normed = torch.rms_norm(x.float(), (x.shape[-1],), None, eps)
    return normed.to(x.dtype).mul_(weight)
