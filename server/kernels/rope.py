"""Rotary position embedding (Su et al., arXiv 2104.09864), in the half-split layout of Llama."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RopeTable:
    """Cosines and signed sines for every position, computed in fp32 and kept in the compute dtype.

    `cos`, `sin`: [positions, 1, head_dim]. The first half of `sin` is negated, so that rotating
    is one product with the halves swapped.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    @classmethod
    def build(
        cls, *, head_dim: int, num_positions: int, theta: float, like: torch.Tensor
    ) -> RopeTable:
        """A table in the dtype and on the device of `like`."""
        exponent = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        inverse_frequency = 1.0 / (theta**exponent)
        angles = torch.outer(torch.arange(num_positions).float(), inverse_frequency)
        sin = angles.sin()
        return cls(
            cos=torch.cat((angles.cos(), angles.cos()), dim=-1)[:, None, :].to(like),
            sin=torch.cat((-sin, sin), dim=-1)[:, None, :].to(like),
        )

    def at(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of `positions` [tokens]: two tensors [tokens, 1, head_dim]."""
        return self.cos[positions], self.sin[positions]


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate `x` [tokens, heads, head_dim] to the positions that `RopeTable.at` was asked for."""
    tokens, heads, head_dim = x.shape
    swapped = x.reshape(tokens, heads, 2, head_dim // 2).flip(2).view(tokens, heads, head_dim)
    return torch.addcmul(x * cos, swapped, sin)
