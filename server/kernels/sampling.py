"""Choose tokens from logits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

CANDIDATES = 1024  # a nucleus almost always lies within this many best tokens


def largest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of each row of `logits` [rows, vocab], and the first token that has it.

    Of NaN there is no larger: it comes out on top. Looked through in fp32, which torch does five
    times as fast on CPU as in bf16. Returns fp32 [rows], int64 [rows].
    """
    wide = logits.float()
    ids = wide.argmax(-1, keepdim=True)
    return wide.gather(-1, ids)[:, 0], ids[:, 0]


def keep_allowed(logits: torch.Tensor, mask: NDArray[np.int32]) -> torch.Tensor:
    """Mask with -inf those of `logits` [vocab] whose bit in `mask` [ceil(vocab / 32)] is 0."""
    bits = np.unpackbits(mask.view(np.uint8), count=len(logits), bitorder="little")
    return logits.masked_fill(torch.from_numpy(bits) == 0, -torch.inf)


def keep_top_k(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Mask all but the `k` largest of `logits` [vocab] with -inf; ties with the last one stay."""
    if k >= logits.shape[-1]:
        return logits
    smallest = logits.topk(k).values[-1]
    return logits.masked_fill(logits < smallest, -torch.inf)


def keep_top_p(logits: torch.Tensor, p: float) -> torch.Tensor:
    """Mask all but the smallest set of `logits` [vocab] whose probability reaches `p`.

    Nucleus sampling (Holtzman et al., arXiv 1904.09751); the most probable token always stays.
    """
    probabilities = logits.softmax(-1)
    best, order = probabilities.topk(min(CANDIDATES, len(probabilities)))
    if best.sum() < p:
        best, order = probabilities.sort(descending=True)
    before = best.cumsum(-1) - best
    mask = torch.full_like(logits, -torch.inf)
    kept = order[before < p]
    mask[kept] = 0
    return logits + mask


def keep_min_p(logits: torch.Tensor, p: float) -> torch.Tensor:
    """Mask tokens less probable than `p` times the most probable (Nguyen et al., 2407.01082)."""
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.max(), -torch.inf)


def penalize(
    logits: torch.Tensor,
    prompt: torch.Tensor,
    generated: torch.Tensor,
    *,
    presence: float,
    frequency: float,
    repetition: float,
) -> torch.Tensor:
    """Lower the `logits` [vocab] of tokens already said.

    presence and frequency count generated tokens only (OpenAI's definition); repetition divides
    positive and multiplies negative logits of prompt and generated tokens (Keskar et al.,
    arXiv 1909.05858). prompt, generated: token ids.
    """
    logits = logits.clone()
    if repetition != 1.0:
        seen = torch.unique(torch.cat((prompt, generated)))
        values = logits[seen]
        logits[seen] = torch.where(values > 0, values / repetition, values * repetition)
    counts = torch.bincount(generated, minlength=len(logits)).to(logits.dtype)
    return logits - frequency * counts - presence * (counts > 0)


def draw(logits: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One token id drawn from softmax(`logits` [vocab]), by the exponential race.

    The noise depends on the generator alone, so a seeded sequence draws the same in any company.
    """
    noise = torch.empty_like(logits).exponential_(generator=generator)
    return (logits.softmax(-1) / noise).argmax()
