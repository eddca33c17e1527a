"""Prompt rows as decode attention takes them: each with a context and a block table of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from server.engine.step_kernels import DecodeAttention
from server.kernels.triton.chunks import PromptChunks

AT_ONCE = 256  # rows; decode attention keeps the partial results of all it is given


@dataclass(frozen=True)
class RowTables:
    """What each row of some prompt chunks sees.

    context_lengths: [rows] int32, the row's own token included; 0 where no chunk has the row.
    block_tables: [rows, blocks] int32.
    """

    context_lengths: torch.Tensor
    block_tables: torch.Tensor

    @classmethod
    def of(cls, chunks: PromptChunks, rows: int) -> RowTables:
        """For the first `rows` rows of a pass, without reading anything from the device."""
        starts = chunks.starts
        row = torch.arange(rows, dtype=starts.dtype, device=starts.device)
        chunk = torch.searchsorted(starts[1:], row, right=True).clamp(max=len(starts) - 2)
        to_end = starts[1:][chunk] - 1 - row  # rows of the chunk that come after this one
        lengths = chunks.context_lengths[chunk] - to_end
        lengths = torch.where(to_end >= 0, lengths, torch.zeros_like(lengths))
        return cls(lengths, chunks.block_tables[chunk])

    def attend(
        self,
        query: torch.Tensor,
        cache: torch.Tensor,
        attention: DecodeAttention,
        *,
        splits: int,
        window: int | None,
    ) -> torch.Tensor:
        """Attention of `query` [rows, heads, head_dim] over one layer's cache → the same shape.

        Each row has the bits that it would have as the newest token of a decoding sequence.
        """
        parts = [slice(first, first + AT_ONCE) for first in range(0, len(query), AT_ONCE)]
        return torch.cat(
            [
                attention(
                    query[part],
                    cache,
                    self.block_tables[part],
                    self.context_lengths[part],
                    splits=splits,
                    window=window,
                )
                for part in parts
            ]
        )
