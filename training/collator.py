"""From samples of several lengths to one batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from .samples import IGNORED, Sample

_WORTH = 8  # tokens; a shorter prefix costs more in a second forward pass than it saves


@dataclass(frozen=True)
class Collator:
    """Pads on one side; on the left, answers of like length end up in the same columns.

    Padding is known by its position, never by its id: where the padding token is the end-of-
    sequence token, as is usual, masking by id would also mask every EOS to be learned.

    With `share_prefix`, what all prompts of a batch begin with (the system prompt, mostly) is put
    apart as `prefix_ids`, to be computed once and not in every row. With `length`, every batch is
    padded to that many tokens, prefix included.
    """

    pad_token_id: int
    share_prefix: bool = False
    side: Literal["left", "right"] = "left"
    length: int | None = None

    def __call__(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """`input_ids`, `position_ids` and `labels`, each [batch, longest rest]; `attention_mask`
        [batch, prefix + longest rest]; and `prefix_ids` [1, prefix] where there is a prefix.
        """
        prefix = common_prefix(samples) if self.share_prefix else ()
        skip = len(prefix)
        longest = self.length or max(map(len, samples))
        shape = (len(samples), longest - skip)
        input_ids = torch.full(shape, self.pad_token_id)
        labels = torch.full(shape, IGNORED)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        position_ids = torch.zeros(shape, dtype=torch.long)
        for row, sample in enumerate(samples):
            count = len(sample) - skip
            start = shape[1] - count if self.side == "left" else 0
            place = slice(start, start + count)
            input_ids[row, place] = torch.tensor(sample.input_ids[skip:])
            labels[row, place] = torch.tensor(sample.labels[skip:])
            attention_mask[row, place] = 1
            position_ids[row, place] = torch.arange(skip, len(sample))
        batch = {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}
        ones = torch.ones((len(samples), skip), dtype=torch.long)
        batch["attention_mask"] = torch.cat([ones, attention_mask], dim=1)
        if prefix:
            batch["prefix_ids"] = torch.tensor([prefix])
        return batch


def common_prefix(samples: Sequence[Sample]) -> tuple[int, ...]:
    """The token ids that all prompts begin with, short of the last prompt token of any.

    That one stays in its row: the logits that predict the first answer token are computed there.
    Fewer than `_WORTH` shared tokens count as none.
    """
    limit = min(sample.num_prompt for sample in samples) - 1
    first = samples[0].input_ids
    length = 0
    while length < limit and all(s.input_ids[length] == first[length] for s in samples):
        length += 1
    return first[:length] if length >= _WORTH and len(samples) > 1 else ()
