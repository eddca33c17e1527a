"""Low-rank factors: of a change that has a low rank, and nearest to one that has not."""

from __future__ import annotations

import torch

_EXACT = 2048  # up to this many rows or columns, all singular values are computed


def compact(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`left` [out, k] @ `right` [k, in] as balanced factors B [out, k] and A [k, in].

    The product is the same. Where it is a small difference of large products, its factors are as
    small as it is, so that rounding them does not drown it. Thin QR of both sides, then an SVD of
    the k · k core.
    """
    q_left, r_left = torch.linalg.qr(left.double())
    q_right, r_right = torch.linalg.qr(right.double().t())
    u, values, v = torch.linalg.svd(r_left @ r_right.t())
    root = values.sqrt()
    return (q_left @ (u * root)).float(), ((root[:, None] * v) @ q_right.t()).float()


def nearest(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """B [out, rank] and A [rank, in] whose product is nearest to `delta` [out, in].

    The leading singular triplets (Eckart and Young, 1936). Large matrices take randomized
    subspace iteration (Halko et al., arXiv 0909.4061), whose error is far below bfloat16's.
    """
    delta = delta.float()
    if min(delta.shape) <= _EXACT:
        u, values, v = torch.linalg.svd(delta, full_matrices=False)
        u, values, v = u[:, :rank], values[:rank], v[:rank]
    else:
        u, values, columns = torch.svd_lowrank(delta, q=min(rank + 16, *delta.shape), niter=4)
        u, values, v = u[:, :rank], values[:rank], columns[:, :rank].t()
    root = values.clamp(min=0).sqrt()
    return u * root, root[:, None] * v


def squared(matrix: torch.Tensor) -> float:
    """The squared Frobenius norm."""
    return float(matrix.float().square().sum())
