"""What an adapter costs on text that has nothing to do with its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .likelihood import Likelihood

BUDGET = 0.2  # how much of its perplexity on general text an adapter may add


@dataclass(frozen=True)
class Forgetting:
    """Perplexity on general text of base and adapter, and by how much it may rise."""

    base: Likelihood
    adapter: Likelihood
    budget: float

    @property
    def rise(self) -> float:
        """The adapter's perplexity over the base's, less 1: 0.05 is 5 % worse."""
        return self.adapter.perplexity / self.base.perplexity - 1

    @property
    def is_kept(self) -> bool:
        """Whether the rise is within the budget."""
        return self.rise <= self.budget

    def __str__(self) -> str:
        return (
            f"general text: perplexity {self.base.perplexity:.2f} → "
            f"{self.adapter.perplexity:.2f} ({self.rise:+.1%}, budget {self.budget:.0%})"
        )

    def document(self) -> dict[str, Any]:
        return {
            "base_perplexity": self.base.perplexity,
            "adapter_perplexity": self.adapter.perplexity,
            "tokens": self.base.tokens,
            "rise": self.rise,
            "budget": self.budget,
            "is_kept": self.is_kept,
        }
