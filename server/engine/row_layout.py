"""Turn a batch into the numbers that the compiled forward pass reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from server.engine.batch import Batch, Chunk
from server.engine.prompt_scores import logit_rows
from server.kernels.cpu.records import RUN

LONGEST_RUN = 16  # rows; longer ones are cut, so that threads can share them
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowStep:
    """One step's rows: decoding tokens first, then the prompt chunks.

    token_ids, positions, kv_slots: [rows]. blocks: the sequences' block numbers, one after the
    other; table_starts: [rows], where among them a row's sequence begins. sample_rows: [samples].
    runs: RUN [runs].
    """

    token_ids: Ints
    positions: Ints
    kv_slots: Ints
    blocks: Ints
    table_starts: Ints
    sample_rows: Ints
    runs: npt.NDArray[np.void]


_NOTHING = np.empty(0, np.int64)
NO_ROWS = RowStep(
    token_ids=_NOTHING,
    positions=_NOTHING,
    kv_slots=_NOTHING,
    blocks=_NOTHING,
    table_starts=_NOTHING,
    sample_rows=_NOTHING,
    runs=np.empty(0, RUN),
)


@dataclass(frozen=True)
class RowLayout:
    """How batches are laid out for the compiled kernels."""

    block_size: int

    def build(self, batch: Batch) -> RowStep:
        chunks = batch.chunks
        counts = [chunk.num_tokens for chunk in chunks]
        sequences = [chunk.sequence for chunk in chunks]
        lengths = np.array([len(sequence.blocks) for sequence in sequences], np.int64)
        blocks = np.fromiter(chain.from_iterable(s.blocks for s in sequences), np.int64)
        table_starts = np.repeat(lengths.cumsum() - lengths, counts)
        positions = _joined(range(chunk.start, chunk.end) for chunk in chunks)
        owned = blocks[table_starts + positions // self.block_size]
        return RowStep(
            token_ids=_joined(chunk.token_ids for chunk in chunks),
            positions=positions,
            kv_slots=owned * self.block_size + positions % self.block_size,
            blocks=blocks,
            table_starts=table_starts,
            sample_rows=np.array(logit_rows(chunks), np.int64),
            runs=_runs(chunks),
        )


def _joined(parts: Iterator[Sequence[int]]) -> Ints:
    return np.fromiter(chain.from_iterable(parts), np.int64)


def _runs(chunks: Sequence[Chunk]) -> npt.NDArray[np.void]:
    """Rows that stand together and share a slot, cut into pieces of LONGEST_RUN."""
    runs: list[tuple[int, int, int]] = []
    row = 0
    for chunk in chunks:
        slot, end = chunk.sequence.slot, row + chunk.num_tokens
        if slot is not None:
            start = row
            if runs and runs[-1][1:] == (row, slot):
                start = runs.pop()[0]
            runs += [(s, min(s + LONGEST_RUN, end), slot) for s in range(start, end, LONGEST_RUN)]
        row = end
    return np.array(runs, RUN)
