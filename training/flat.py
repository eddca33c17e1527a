"""Rows of a batch behind one another instead of one under another: nothing is padded.

The rows of one optimizer step weigh the same however they are divided into forward passes, since
the loss is summed over answer tokens and divided by all of them. So short rows go through the model
together, up to as many tokens as `batch_size` rows of `max_length` would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from .packing import Pack, PackCollator, pack
from .samples import Sample

PASSES = "passes"  # tokens of each row, by forward pass


@dataclass(frozen=True)
class FlatCollator:
    """Divides a step's rows into forward passes of at most `limit` tokens."""

    limit: int

    def __call__(self, rows: Sequence[Sample | Pack]) -> dict[str, Any]:
        """`input_ids`, `position_ids` and `labels`, each [1, all tokens], and `PASSES`."""
        samples = [s for row in rows for s in (row.samples if isinstance(row, Pack) else (row,))]
        passes = pack(samples, self.limit)
        whole = Pack(tuple(sample for each in passes for sample in each.samples))
        batch: dict[str, Any] = dict(PackCollator(pad_token_id=0)([whole]))
        batch[PASSES] = [[len(sample) for sample in each.samples] for each in passes]
        return batch


def passes(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the model takes, a forward pass at a time, with where rows begin in transformers' words.

    A batch that is not flat is one pass.
    """
    if PASSES not in batch:
        yield dict(batch)
        return
    start = 0
    for lengths in batch[PASSES]:
        place = slice(start, start + sum(lengths))
        start = place.stop
        tensors = {
            key: value[:, place] for key, value in batch.items() if isinstance(value, torch.Tensor)
        }
        bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        bounds = bounds.to(batch["input_ids"].device, non_blocking=True)
        longest = max(lengths)
        yield {
            **tensors,
            "cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds,
            "max_length_q": longest, "max_length_k": longest,
        }  # fmt: skip
