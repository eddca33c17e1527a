"""Write the rows of decode steps where one copy takes them to the device."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from collections.abc import Sequence as Items

import torch

from server.engine.batch import Chunk
from server.engine.sequence import Sequence
from server.engine.step_buffers import RowBlock
from server.kernels.triton.row_sampling import RowSampling
from server.kernels.triton.tiles import group_rows

PADDING_TOKEN = 0
NOWHERE = -1


class Staging:
    """A few host blocks, used in turn, because the copy out of one may not have begun yet.

    depth: how many steps may be under way at once, the one being written included.
    """

    def __init__(
        self, max_rows: int, max_blocks: int, block_size: int, device: torch.device, *, depth: int
    ) -> None:
        self._block_size = block_size
        host = torch.device("cpu")
        pin = device.type == "cuda"
        blocks = [RowBlock.make(max_rows, max_blocks, host, pin=pin) for _ in range(depth)]
        self._turns = itertools.cycle(blocks)
        self.device = RowBlock.make(max_rows, max_blocks, device, pin=False)

    def send(self, chunks: Items[Chunk], rows: int, places: Mapping[Sequence, int]) -> None:
        """Fill the first `rows` device rows: the chunks, one token each, then empty rows.

        places: where the step before put the token of each sequence whose newest is not known yet.
        """
        block = next(self._turns)
        self._write_rows(block, chunks, rows, places)
        self._write_tiles(block, chunks, rows)
        if any(is_random(chunk.sequence) for chunk in chunks):
            write_sampling(block.rows.sampling, [chunk.sequence for chunk in chunks])
        self.device.used(rows).copy_(block.used(rows), non_blocking=True)

    def _write_rows(
        self,
        block: RowBlock,
        chunks: Items[Chunk],
        rows: int,
        places: Mapping[Sequence, int],
    ) -> None:
        size, empty = self._block_size, rows - len(chunks)
        positions = [chunk.start for chunk in chunks]
        blocks = [chunk.sequence.blocks for chunk in chunks]
        slots = [
            table[at // size] * size + at % size
            for table, at in zip(blocks, positions, strict=True)
        ]
        tokens = [newest_token(chunk, places) for chunk in chunks]
        to = block.rows
        to.token_ids.numpy()[:rows] = tokens + [PADDING_TOKEN] * empty
        to.positions.numpy()[:rows] = positions + [0] * empty
        to.kv_slots.numpy()[:rows] = slots + [NOWHERE] * empty
        to.context_lengths.numpy()[:rows] = [chunk.end for chunk in chunks] + [0] * empty
        tables = to.block_tables.numpy()
        for row, table in enumerate(blocks):
            tables[row, : len(table)] = table

    def _write_tiles(self, block: RowBlock, chunks: Items[Chunk], rows: int) -> None:
        to = block.rows.tiles
        row_slots = [chunk.sequence.slot for chunk in chunks]
        slots, members = group_rows(row_slots, to.tile_rows)
        block.rows.row_slots.numpy()[:rows] = [
            NOWHERE if slot is None else slot for slot in row_slots
        ] + [NOWHERE] * (rows - len(row_slots))
        to.slots.numpy()[:rows] = slots + [NOWHERE] * (rows - len(slots))
        if members:
            to.rows.numpy()[: len(members)] = members


def newest_token(chunk: Chunk, places: Mapping[Sequence, int]) -> int:
    """The chunk's one token, or `~place` of it while the host does not know it."""
    known = chunk.sequence.token_ids
    return known[chunk.start] if chunk.start < len(known) else ~places[chunk.sequence]


def is_random(sequence: Sequence) -> bool:
    """Whether the device draws the sequence's next token."""
    return not (sequence.params.is_greedy or sequence.needs_host)


def write_sampling(to: RowSampling, sequences: Items[Sequence]) -> None:
    """Each sequence's own parameters; greedy for those whose token the host chooses."""
    count = len(sequences)
    params = [sequence.params for sequence in sequences]
    random = [is_random(sequence) for sequence in sequences]
    to.temperature.numpy()[:count] = [
        p.temperature if draws else 0.0 for p, draws in zip(params, random, strict=True)
    ]
    to.top_k.numpy()[:count] = [p.top_k for p in params]
    to.top_p.numpy()[:count] = [p.top_p for p in params]
    to.min_p.numpy()[:count] = [p.min_p for p in params]
    to.seeds.numpy()[:count] = [sequence.noise_seed for sequence in sequences]
