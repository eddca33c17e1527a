"""Decode steps: one token of each running sequence, one recorded graph for each number of rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import partial

import torch

from server.engine.choosing import choose, draw
from server.engine.device_model import DeviceModel, Rows
from server.engine.graphs import Recorder, Work, bucket_sizes
from server.engine.step_buffers import DecodeRows
from server.kernels.triton.splits import splits_for

INVARIANT_SPLITS = 8  # whatever the batch


class DecodeSteps:
    """Runs the first rows of static memory through the model.

    rows: the static input. chosen: [rows or more] int64, where tokens go and where the step
    before left them; -1 where logits were not finite. logits: [rows, vocab] of the newest step.
    sizes: the numbers of rows that are recorded, ascending; None chooses them.
    """

    def __init__(
        self,
        model: DeviceModel,
        rows: DecodeRows,
        chosen: torch.Tensor,
        *,
        sizes: tuple[int, ...] | None = None,
    ) -> None:
        self._model = model
        self._rows = rows
        self._chosen = chosen
        max_rows = len(rows.token_ids)
        self.sizes = sizes or bucket_sizes(max_rows)
        embedding = model.weights.embedding
        self.logits = torch.zeros(
            (max_rows, model.config.vocab_size), dtype=embedding.dtype, device=embedding.device
        )
        self._recorded: dict[tuple[int, bool], Work] = {}
        self._draws: dict[int, Work] = {}

    def record(self, recorder: Recorder) -> None:
        """Record every size, with adapters and without; the largest first, for the memory pool."""
        # Its result is an index, which nobody may look up before it has run.
        self._model.kernels.known_tokens(self._rows.token_ids, self._chosen)
        draws = {size: partial(self._draw, size) for size in reversed(self.sizes)}
        recorder.prepare([*self._works(self._model.shallow).values(), *draws.values()])
        for key, work in self._works(self._model).items():
            self._recorded[key] = recorder.record(work)
        for size, draw_rows in draws.items():
            self._draws[size] = recorder.record(draw_rows)

    def size_for(self, count: int) -> int:
        """Rows of the smallest recorded step that takes `count` sequences."""
        return self.sizes[bisect_left(self.sizes, count)]

    def run(self, size: int, *, adapted: bool) -> None:
        """Compute the first `size` rows; `adapted` if any of them has an adapter."""
        self._recorded[size, adapted]()

    def draw(self, size: int) -> None:
        """Replace what the first `size` rows chose by a drawn token, where their parameters ask."""
        self._draws[size]()

    def _works(self, model: DeviceModel) -> Mapping[tuple[int, bool], Work]:
        """Each size with adapters and without, through a model."""
        return {
            (size, adapted): partial(self._compute, model, size, adapted)
            for size in reversed(self.sizes)
            for adapted in (True, False)
        }

    def _draw(self, size: int) -> None:
        rows, chosen = self._rows.first(size), self._chosen[:size]
        draw(chosen, self.logits[:size], rows.sampling, rows.positions, self._model.kernels)

    def _compute(self, model: DeviceModel, size: int, adapted: bool) -> None:
        rows = self._rows.first(size)
        hidden = model.forward(
            Rows(
                model.kernels.known_tokens(rows.token_ids, self._chosen),
                rows.positions,
                rows.kv_slots,
                rows.tiles if adapted else None,
                partial(self._attend, rows, self._splits(size)),
                None if model.invariant else rows.row_slots,
            )
        )
        logits = model.logits(hidden)
        self.logits[:size] = logits
        choose(logits, model.kernels, out=self._chosen[:size])

    def _splits(self, size: int) -> int:
        model = self._model
        return INVARIANT_SPLITS if model.invariant else splits_for(size, model.config.num_kv_heads)

    def _attend(
        self, rows: DecodeRows, splits: int, query: torch.Tensor, cache: torch.Tensor
    ) -> torch.Tensor:
        return self._model.kernels.decode_attention(
            query,
            cache,
            rows.block_tables,
            rows.context_lengths,
            splits=splits,
            window=self._model.config.sliding_window,
        )
