"""Prompt chunks of several sequences that attend in one launch."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PromptChunks:
    """Consecutive queries of each sequence, one sequence after the other.

    starts: [sequences + 1] int32, the first row of each sequence's chunk, then the end of the last.
    context_lengths: [sequences] int32, tokens of the sequence in the cache, the chunk included, so
    a chunk's last query stands at position `context_length - 1`.
    block_tables: [sequences, blocks] int32; entries beyond a sequence's context are not read.
    longest: no chunk has more queries; a host integer, for it sizes the grid.
    """

    starts: torch.Tensor
    context_lengths: torch.Tensor
    block_tables: torch.Tensor
    longest: int
