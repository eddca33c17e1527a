"""Turn a batch into the tensors that one forward pass reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from server.engine.batch import Batch, Chunk
from server.engine.config import ModelConfig
from server.engine.kv_cache import NULL_BLOCK
from server.engine.prompt_scores import logit_rows
from server.engine.slots import LoraPlan, SlotPool
from server.kernels.attention import AttentionGroup


@dataclass(frozen=True)
class StepInput:
    """One step's rows: decoding tokens first, then the prompt chunks.

    token_ids, positions, kv_slots: [tokens]. begun_blocks: [blocks] whose first token is among
    them. sample_rows: [samples], the rows whose logits count.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    kv_slots: torch.Tensor
    begun_blocks: torch.Tensor
    sample_rows: torch.Tensor
    attention: tuple[AttentionGroup, ...]
    lora: LoraPlan


@dataclass(frozen=True)
class Layout:
    """How batches are laid out for one model and cache."""

    config: ModelConfig
    block_size: int
    dtype: torch.dtype
    device: torch.device
    slots: SlotPool

    def build(self, batch: Batch) -> StepInput:
        chunks = batch.chunks
        row_slots = [chunk.sequence.slot for chunk in chunks for _ in range(chunk.num_tokens)]
        return StepInput(
            token_ids=self._tensor([t for chunk in chunks for t in chunk.token_ids]),
            positions=self._tensor([p for chunk in chunks for p in _positions(chunk)]),
            kv_slots=self._tensor([s for chunk in chunks for s in self._kv_slots(chunk)]),
            begun_blocks=self._tensor([b for chunk in chunks for b in self._begun(chunk)]),
            sample_rows=self._tensor(logit_rows(chunks)),
            attention=(*self._decoding_groups(batch), *self._chunk_groups(batch)),
            lora=self.slots.plan(row_slots, len(batch.decoding)),
        )

    def _tensor(self, values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    def _kv_slots(self, chunk: Chunk) -> Iterator[int]:
        blocks, size = chunk.sequence.blocks, self.block_size
        for position in _positions(chunk):
            yield blocks[position // size] * size + position % size

    def _begun(self, chunk: Chunk) -> list[int]:
        first = -(-chunk.start // self.block_size)
        return chunk.sequence.blocks[first : self._num_blocks(chunk)]

    def _decoding_groups(self, batch: Batch) -> Iterator[AttentionGroup]:
        """Sequences whose lengths lie within a factor of two share one padded call."""
        buckets: dict[int, list[int]] = defaultdict(list)
        for row, chunk in enumerate(batch.decoding):
            buckets[self._num_blocks(chunk).bit_length()].append(row)
        for rows in buckets.values():
            chunks = [batch.decoding[row] for row in rows]
            positions = self._tensor([chunk.start for chunk in chunks])
            table = self._block_table(chunks)
            mask = self._mask(positions, table.shape[1])[:, None, None, :]
            yield AttentionGroup(
                rows=slice(0, len(rows)) if len(buckets) == 1 else self._tensor(rows),
                num_queries=1,
                block_table=table,
                mask=mask.expand(-1, 1, self.config.group_size, -1),
            )

    def _chunk_groups(self, batch: Batch) -> Iterator[AttentionGroup]:
        row = len(batch.decoding)
        for chunk in batch.prefilling:
            table = self._block_table([chunk])
            mask = self._mask(self._tensor(list(_positions(chunk))), table.shape[1])
            yield AttentionGroup(
                rows=slice(row, row + chunk.num_tokens),
                num_queries=chunk.num_tokens,
                block_table=table,
                mask=mask.repeat(self.config.group_size, 1)[None, None],
            )
            row += chunk.num_tokens

    def _num_blocks(self, chunk: Chunk) -> int:
        return -(-chunk.end // self.block_size)

    def _block_table(self, chunks: list[Chunk]) -> torch.Tensor:
        width = max(self._num_blocks(chunk) for chunk in chunks)
        rows = []
        for chunk in chunks:
            blocks = chunk.sequence.blocks[: self._num_blocks(chunk)]
            rows.append(blocks + [NULL_BLOCK] * (width - len(blocks)))
        return torch.tensor(rows, dtype=torch.int64, device=self.device)

    def _mask(self, positions: torch.Tensor, num_blocks: int) -> torch.Tensor:
        """[queries, context]: 0 where a query may look, -inf elsewhere."""
        context = torch.arange(num_blocks * self.block_size, device=self.device)
        hidden = context[None, :] > positions[:, None]
        if self.config.sliding_window is not None:
            hidden |= context[None, :] <= positions[:, None] - self.config.sliding_window
        mask = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(hidden, -torch.inf)


def _positions(chunk: Chunk) -> range:
    return range(chunk.start, chunk.end)
