"""How far logits lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Distance:
    """Of log-probabilities from a reference, over all tokens of the vocabulary, in nats.

    kl: of the reference from these, the mean over rows. agreement: share of rows that have the same
    most probable token.
    """

    worst: float
    mean: float
    kl: float
    agreement: float

    @classmethod
    def of(cls, logits: Sequence[torch.Tensor], reference: Sequence[torch.Tensor]) -> Distance:
        """Between rows [rows, vocab] of the same texts."""
        found = torch.cat(list(logits)).double().log_softmax(-1)
        expected = torch.cat(list(reference)).double().log_softmax(-1)
        apart = (found - expected).abs()
        kl = (expected.exp() * (expected - found)).sum(-1)
        same = found.argmax(-1) == expected.argmax(-1)
        return cls(
            worst=float(apart.max()),
            mean=float(apart.mean()),
            kl=float(kl.mean()),
            agreement=float(same.double().mean()),
        )

    def __str__(self) -> str:
        return (
            f"max {self.worst:.4f}  mean {self.mean:.5f}  KL {self.kl:.2e}  "
            f"top-1 {100 * self.agreement:.0f}%"
        )


def num_comparable(one: torch.Tensor, other: torch.Tensor) -> int:
    """Leading rows after the same text: up to the first that chooses another token."""
    same = one.argmax(-1) == other.argmax(-1)
    return min(len(one), int(same.cumprod(0).sum()) + 1)
