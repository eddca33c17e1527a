"""Prompt chunks: many tokens of a few sequences in one pass, launched kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from server.engine.batch import Chunk
from server.engine.choosing import choose, draw
from server.engine.decode_steps import INVARIANT_SPLITS
from server.engine.device_masks import DeviceMasks
from server.engine.device_model import Attend, DeviceModel, Rows
from server.engine.pooling import ChunkPool
from server.engine.prompt_scores import ChunkScores
from server.engine.row_tables import RowTables
from server.engine.staging import NOWHERE, is_random, write_sampling
from server.kernels.triton.chunks import PromptChunks
from server.kernels.triton.room import ROOM
from server.kernels.triton.row_sampling import RowSampling
from server.kernels.triton.tiles import DECODE_ROWS, PROMPT_ROWS, LoraTiles, group_runs

RanksOf = Callable[[int], int]
"""Of a slot's adapter: the ranks of all parts of its widest site together."""
Reading = ChunkScores | ChunkPool
"""What is read off a chunk's rows, to be recorded once the device is done."""


@dataclass(frozen=True)
class PromptPass:
    """Runs chunks through the model; what they need travels with each pass.

    ranks: how many the adapter in a slot has at its widest site.
    """

    model: DeviceModel
    masks: DeviceMasks
    block_size: int
    device: torch.device
    ranks: RanksOf

    def run(self, chunks: Items[Chunk], chosen: torch.Tensor) -> torch.Tensor:
        """Compute all chunks; the tokens of those that sample go to `chosen` [samples] int64.

        Their logits [samples, vocab], in the order of the chunks.
        """
        return self._choose(self._forward(chunks), chunks, chosen)

    def run_read(
        self, chunks: Items[Chunk], chosen: torch.Tensor
    ) -> tuple[torch.Tensor, list[Reading]]:
        """As `run`, with what the chunks that are scored or pooled ask of all their rows."""
        hidden = self._forward(chunks)
        readings: list[Reading] = []
        parts = torch.split(hidden, [chunk.num_tokens for chunk in chunks])
        for chunk, rows in zip(chunks, parts, strict=True):
            if chunk.is_scored:
                readings.append(ChunkScores.of(chunk, rows, self.model.logits))
            if chunk.is_pooled:
                readings.append(ChunkPool.of(chunk, rows))
        return self._choose(hidden, chunks, chosen), readings

    def _forward(self, chunks: Items[Chunk]) -> torch.Tensor:
        """Hidden states [tokens, hidden] of all chunks."""
        positions = np.concatenate([np.arange(chunk.start, chunk.end) for chunk in chunks])
        tiles = self._tiles(chunks)
        is_shared = tiles is not None and self.is_shared(chunks, len(positions))
        return self.model.forward(
            Rows(
                token_ids=self._send([token for chunk in chunks for token in chunk.token_ids]),
                positions=self._send(positions),
                kv_slots=self._send(np.concatenate([self.kv_slots(chunk) for chunk in chunks])),
                tiles=tiles,
                attend=self.attention(
                    self._prompt_chunks(chunks), len(positions), is_shared=is_shared
                ),
                is_shared=is_shared,
            )
        )

    def _choose(
        self, hidden: torch.Tensor, chunks: Items[Chunk], chosen: torch.Tensor
    ) -> torch.Tensor:
        ends = np.cumsum([chunk.num_tokens for chunk in chunks]) - 1
        sampling = [chunk for chunk in chunks if chunk.samples]
        if not sampling:
            return hidden.new_empty((0, self.model.config.vocab_size))
        rows = ends[[chunk.samples for chunk in chunks]]
        logits = self.model.logits(hidden[self._send(rows)])
        chosen.copy_(choose(logits, self.model.kernels))
        self.shape_choice(chosen, logits, sampling)
        return logits

    def shape_choice(
        self, chosen: torch.Tensor, logits: torch.Tensor, sampling: Items[Chunk]
    ) -> None:
        """Put what grammars allow and what is drawn into `chosen` [samples], greedy until now."""
        self.masks.apply(logits, chosen, [chunk.sequence for chunk in sampling])
        if not any(is_random(chunk.sequence) for chunk in sampling):
            return
        positions = self._send([chunk.end - 1 for chunk in sampling])
        draw(chosen, logits, self._sampling(sampling), positions, self.model.kernels)

    def is_shared(self, chunks: Items[Chunk], rows: int) -> bool:
        """Whether a pass of so many rows may have its one adapter within its products."""
        slots = {chunk.sequence.slot for chunk in chunks}
        if len(slots) > 1 or not self.model.unpacks(rows):
            return False
        (slot,) = slots
        return slot is None or self.ranks(slot) <= ROOM

    def attention(self, chunks: PromptChunks, rows: int, *, is_shared: bool) -> Attend:
        """Attention of the chunks' rows, so many in all, over any layer's cache.

        Where bits may depend on nothing but the row, rows go through the decode kernel: then it
        does not matter either whether a token was computed in a prompt, and in which chunk of it.
        """
        kernels, window = self.model.kernels, self.model.config.sliding_window
        if not self.model.invariant:
            room = ROOM if is_shared else 0
            return partial(kernels.prefill_attention, chunks=chunks, window=window, room=room)
        return partial(
            RowTables.of(chunks, rows).attend,
            attention=kernels.decode_attention,
            splits=INVARIANT_SPLITS,
            window=window,
        )

    def kv_slots(self, chunk: Chunk) -> NDArray[np.int64]:
        """Where the chunk's keys and values go."""
        positions = np.arange(chunk.start, chunk.end)
        blocks = np.asarray(chunk.sequence.blocks, dtype=np.int64)
        return blocks[positions // self.block_size] * self.block_size + positions % self.block_size

    def _prompt_chunks(self, chunks: Items[Chunk]) -> PromptChunks:
        lengths = [chunk.num_tokens for chunk in chunks]
        counts = [-(-chunk.end // self.block_size) for chunk in chunks]
        tables = np.zeros((len(chunks), max(counts)), dtype=np.int32)
        for row, (chunk, count) in enumerate(zip(chunks, counts, strict=True)):
            tables[row, :count] = chunk.sequence.blocks[:count]
        return PromptChunks(
            starts=self._send(np.cumsum([0, *lengths]), torch.int32),
            context_lengths=self._send([chunk.end for chunk in chunks], torch.int32),
            block_tables=self._send(tables, torch.int32),
            longest=max(lengths),
        )

    def _tiles(self, chunks: Items[Chunk]) -> LoraTiles | None:
        if all(chunk.sequence.slot is None for chunk in chunks):
            return None
        slots, rows = group_runs(self.slot_runs(chunks), self.tile_rows)
        return LoraTiles(self._send(slots, torch.int32), self._send(rows, torch.int32))

    def slot_runs(self, chunks: Items[Chunk]) -> list[tuple[int, int]]:
        """Each chunk's slot and number of rows; -1 for the bare base, whose rows are in tiles of
        their own.
        """
        slots = [(chunk.sequence.slot, chunk.num_tokens) for chunk in chunks]
        return [(NOWHERE if slot is None else slot, count) for slot, count in slots]

    @property
    def tile_rows(self) -> int:
        """Rows that go through an adapter together; sums over tiles of the few are the same in any
        company.
        """
        return DECODE_ROWS if self.model.invariant else PROMPT_ROWS

    def _sampling(self, chunks: Items[Chunk]) -> RowSampling:
        kinds = (torch.float32, torch.int32, torch.float32, torch.float32, torch.int64)
        host = RowSampling(*(torch.zeros(len(chunks), dtype=kind) for kind in kinds))
        write_sampling(host, [chunk.sequence for chunk in chunks])
        columns = (host.temperature, host.top_k, host.top_p, host.min_p, host.seeds)
        return RowSampling(*(self._send(column, column.dtype) for column in columns))

    def _send(
        self,
        values: Items[int] | Items[Items[int]] | NDArray[np.int64 | np.int32] | torch.Tensor,
        dtype: torch.dtype = torch.int64,
    ) -> torch.Tensor:
        """On the device, without waiting for it: through pinned memory."""
        host = torch.as_tensor(values, dtype=dtype)
        if self.device.type == "cuda":
            host = host.pin_memory()
        return host.to(self.device, non_blocking=True)
