"""What one pass over the training rows comes to, from their real lengths."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.layer_choice import has_flash_attention, is_on
from training.lengths import Lengths
from training.packing import Pack, pack
from training.rendering import Renderer, render
from training.sampler import LengthGroupedSampler
from training.samples import Sample, fit

if TYPE_CHECKING:
    from training.examples import Example
    from training.recipe import Recipe

_MOST_READ = 2_000  # rows: their mean length is that of all within a few per cent


@dataclass(frozen=True)
class Epoch:
    """Of `num_rows` rows, `num_read` were tokenized; what they come to stands for all.

    `num_trained` is what batches are made of: rows that are kept, or packs of them. `num_tokens` is
    what the forward passes compute, padding included. Without `lengths`, every row counts as full.
    """

    num_rows: int
    num_read: int
    num_trained: int
    num_tokens: int
    lengths: Lengths | None

    @classmethod
    def of_full_rows(cls, recipe: Recipe, num_rows: int) -> Epoch:
        """Where there is no tokenizer: the most that it can come to."""
        return cls(num_rows, 0, num_rows, num_rows * recipe.train.max_length, None)

    @property
    def is_sampled(self) -> bool:
        """Whether only some of the rows were tokenized."""
        return 0 < self.num_read < self.num_rows

    @property
    def num_over(self) -> int:
        """Rows longer than `train.max_length`, as far as is known."""
        return 0 if self.lengths is None else self._of_all(self.lengths.num_over)

    def _of_all(self, count: int) -> int:
        return round(count * self.num_rows / self.num_read)


def read_epoch(
    recipe: Recipe, examples: Sequence[Example], renderer: Renderer, *, most: int = _MOST_READ
) -> Epoch:
    """Tokenize the rows, `most` of them at most, drawn by `data.seed`.

    Rows that are too long count as cut where the recipe refuses them. Raises `DataError` on rows
    that the template refuses, and when none is left.
    """
    data, train = recipe.data, recipe.train
    read = examples
    if len(examples) > most:
        read = random.Random(data.seed).sample(examples, most)
    samples = render(read, renderer, data.loss)
    kept = fit(samples, train.max_length, "right" if data.too_long == "error" else data.too_long)
    rows = pack(kept, train.max_length) if train.packing else kept
    scale = len(examples) / len(read)
    return Epoch(
        num_rows=len(examples),
        num_read=len(read),
        num_trained=max(1, round(len(rows) * scale)),
        num_tokens=round(_computed(recipe, rows) * scale),
        lengths=Lengths(samples, train.max_length, train.batch_size),
    )


def _computed(recipe: Recipe, rows: Sequence[Sample | Pack]) -> int:
    """Tokens in an epoch's forward passes, with what pads each batch to its longest row."""
    train, lengths = recipe.train, [len(row) for row in rows]
    if is_on(train.unpadded, train, on_gpu=has_flash_attention()):
        return sum(lengths)
    if recipe.data.pad_to_max_length:
        return len(rows) * train.max_length
    order = list(range(len(rows)))
    if recipe.data.shuffle:
        step = train.batch_size * train.gradient_accumulation
        order = list(
            LengthGroupedSampler(
                lengths, batch_size=step, seed=train.seed, grouped=train.group_by_length
            )
        )
    starts = range(0, len(order), train.batch_size)
    batches = [[lengths[row] for row in order[i : i + train.batch_size]] for i in starts]
    return sum(len(batch) * max(batch) for batch in batches)
