"""Recorded passes over prompt chunks: what a pass of few tokens costs is mostly its launches."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from server.engine.batch import Chunk
from server.engine.choosing import choose
from server.engine.device_model import DeviceModel, Rows
from server.engine.graphs import Recorder, Work
from server.engine.prompt_pass import PromptPass
from server.engine.staging import NOWHERE
from server.engine.step_buffers import Fields, carve
from server.kernels.triton.chunks import PromptChunks
from server.kernels.triton.tiles import LoraTiles, group_runs

MOST_SEQUENCES = 16  # in one recorded pass; more go kernel by kernel
FINE, COARSE = 16, 256  # tokens: sizes double from one to the other, then go on in steps of it


@dataclass(frozen=True)
class PromptRows:
    """What a recorded pass of so many tokens reads; sequences that are not there have no rows.

    token_ids, positions, kv_slots: [tokens] int64. sample_rows: [sequences] int64, the rows whose
    logits count.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    kv_slots: torch.Tensor
    sample_rows: torch.Tensor
    chunks: PromptChunks
    tiles: LoraTiles

    def first(self, tokens: int, *, is_shared: bool) -> PromptRows:
        """Views for a pass of fewer tokens; where all share an adapter, their tiles are full."""
        num_tiles = _num_tiles(tokens, self.tiles.tile_rows, 1 if is_shared else MOST_SEQUENCES)
        chunks = self.chunks
        return PromptRows(
            self.token_ids[:tokens],
            self.positions[:tokens],
            self.kv_slots[:tokens],
            self.sample_rows,
            PromptChunks(chunks.starts, chunks.context_lengths, chunks.block_tables, tokens),
            LoraTiles(self.tiles.slots[:num_tiles], self.tiles.rows[:num_tiles]),
        )


@dataclass(frozen=True)
class _PromptBlock:
    """`PromptRows` in one stretch of bytes, so that a single copy moves them."""

    data: torch.Tensor
    rows: PromptRows

    @classmethod
    def make(cls, fields: Fields, tokens: int, device: torch.device, *, pin: bool) -> _PromptBlock:
        data, views = carve(fields, device, pin=pin)
        chunks = PromptChunks(
            views["starts"], views["context_lengths"], views["block_tables"], tokens
        )
        tiles = LoraTiles(views["tile_slots"], views["tile_rows"])
        rows = PromptRows(
            views["token_ids"],
            views["positions"],
            views["kv_slots"],
            views["sample_rows"],
            chunks,
            tiles,
        )
        return cls(data, rows)


class PromptSteps:
    """Passes of up to `most` tokens, recorded for each of a few sizes: for any mix of adapters, and
    for one that all rows share.

    chosen: [sequences or more] int64, where tokens go: those of the chunks that sample, in order.
    """

    def __init__(
        self,
        model: DeviceModel,
        passes: PromptPass,
        chosen: torch.Tensor,
        *,
        most: int,
        max_blocks: int,
        depth: int,
    ) -> None:
        self._model = model
        self._passes = passes
        self._chosen = chosen
        self._most_sequences = min(MOST_SEQUENCES, len(chosen))
        self.sizes = prompt_sizes(most)
        fields = _fields(most, self._most_sequences, max_blocks, passes.tile_rows)
        device, host = model.cache.device, torch.device("cpu")
        self._device = _PromptBlock.make(fields, most, device, pin=False)
        pin = device.type == "cuda"
        blocks = [_PromptBlock.make(fields, most, host, pin=pin) for _ in range(depth)]
        self._turns = itertools.cycle(blocks)
        embedding = model.weights.embedding
        self._logits = torch.zeros(
            (self._most_sequences, model.config.vocab_size), dtype=embedding.dtype, device=device
        )
        self._recorded: dict[tuple[int, bool], Work] = {}

    def record(self, recorder: Recorder) -> None:
        """Record every size, over rows that are written nowhere."""
        self._device.rows.kv_slots.fill_(NOWHERE)
        self._device.rows.tiles.slots.fill_(NOWHERE)
        recorder.prepare(self._works(self._model.shallow).values())
        for kind, work in self._works(self._model).items():
            self._recorded[kind] = recorder.record(work)

    def takes(self, chunks: Items[Chunk]) -> bool:
        """Whether a recorded pass is large enough for them."""
        tokens = sum(chunk.num_tokens for chunk in chunks)
        return len(chunks) <= self._most_sequences and tokens <= self.sizes[-1]

    def run(self, chunks: Items[Chunk]) -> torch.Tensor:
        """Compute all chunks; logits [samples, vocab], which the next pass overwrites."""
        tokens = sum(chunk.num_tokens for chunk in chunks)
        size = self.sizes[bisect_left(self.sizes, tokens)]
        block = next(self._turns)
        self._write(block.rows, chunks, size)
        self._device.data.copy_(block.data, non_blocking=True)
        self._recorded[size, self._passes.is_shared(chunks, size)]()
        sampling = [chunk for chunk in chunks if chunk.samples]
        logits = self._logits[: len(sampling)]
        self._passes.shape_choice(self._chosen[: len(sampling)], logits, sampling)
        return logits

    def _works(self, model: DeviceModel) -> Mapping[tuple[int, bool], Work]:
        """Each size through a model, and again for one adapter where that differs."""
        return {
            (size, is_shared): partial(self._compute, model, size, is_shared)
            for size in reversed(self.sizes)
            for is_shared in ((True, False) if model.unpacks(size) else (False,))
        }

    def _compute(self, model: DeviceModel, size: int, is_shared: bool) -> None:
        rows = self._device.rows.first(size, is_shared=is_shared)
        hidden = model.forward(
            Rows(
                rows.token_ids,
                rows.positions,
                rows.kv_slots,
                rows.tiles,
                self._passes.attention(rows.chunks, size, is_shared=is_shared),
                is_shared=is_shared,
            )
        )
        logits = model.logits(hidden[rows.sample_rows])
        self._logits[:] = logits
        self._chosen[: self._most_sequences] = choose(logits, model.kernels)

    def _write(self, to: PromptRows, chunks: Items[Chunk], size: int) -> None:
        lengths = [chunk.num_tokens for chunk in chunks]
        used, count = sum(lengths), len(chunks)
        tokens, positions, slots = to.token_ids.numpy(), to.positions.numpy(), to.kv_slots.numpy()
        tokens[:used] = [token for chunk in chunks for token in chunk.token_ids]
        positions[:used] = np.concatenate([np.arange(c.start, c.end) for c in chunks])
        slots[:used] = np.concatenate([self._passes.kv_slots(chunk) for chunk in chunks])
        tokens[used:size], positions[used:size], slots[used:size] = 0, 0, NOWHERE
        starts = to.chunks.starts.numpy()
        starts[: count + 1], starts[count + 1 :] = np.cumsum([0, *lengths]), used
        contexts = to.chunks.context_lengths.numpy()
        contexts[:count], contexts[count:] = [chunk.end for chunk in chunks], 0
        tables = to.chunks.block_tables.numpy()
        for row, chunk in enumerate(chunks):
            tables[row, : len(chunk.sequence.blocks)] = chunk.sequence.blocks
        ends = starts[1 : count + 1] - 1
        rows = ends[[chunk.samples for chunk in chunks]]
        samples = to.sample_rows.numpy()
        samples[: len(rows)], samples[len(rows) :] = rows, 0
        self._write_tiles(to.tiles, chunks)

    def _write_tiles(self, to: LoraTiles, chunks: Items[Chunk]) -> None:
        slots, rows = group_runs(self._passes.slot_runs(chunks), to.tile_rows)
        to.slots.numpy()[: len(slots)], to.rows.numpy()[: len(rows)] = slots, rows
        to.slots.numpy()[len(slots) :], to.rows.numpy()[len(rows) :] = NOWHERE, NOWHERE


def prompt_sizes(most: int) -> tuple[int, ...]:
    """Tokens of the recorded passes, the last one `most`."""
    fine = itertools.takewhile(lambda size: size < COARSE, (FINE << n for n in itertools.count()))
    sizes = (*fine, *range(COARSE, most, COARSE))
    return (*(size for size in sizes if size < most), most)


def _num_tiles(tokens: int, tile_rows: int, adapters: int) -> int:
    """Tiles that the tokens need at most: each adapter may leave one that is not full."""
    return min(tokens, (tokens - adapters) // tile_rows + adapters)


def _fields(tokens: int, sequences: int, blocks: int, tile_rows: int) -> Fields:
    tiles = _num_tiles(tokens, tile_rows, MOST_SEQUENCES)
    return {
        "token_ids": (torch.int64, (tokens,)),
        "positions": (torch.int64, (tokens,)),
        "kv_slots": (torch.int64, (tokens,)),
        "sample_rows": (torch.int64, (sequences,)),
        "starts": (torch.int32, (sequences + 1,)),
        "context_lengths": (torch.int32, (sequences,)),
        "tile_slots": (torch.int32, (tiles,)),
        "tile_rows": (torch.int32, (tiles, tile_rows)),
        "block_tables": (torch.int32, (sequences, blocks)),
    }
