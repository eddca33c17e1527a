"""Whole rows of logits, seen where the engine's host side chooses tokens from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Items
from typing import Any

import torch

from server.engine.engine import Engine
from server.engine.sampled import Sampled
from server.engine.sequence import Sequence

SEEN = {"logprobs": 0}
"""Parameters that make a sequence's logits go by the witness: they are read by the host."""


class Witness:
    """Stands in for an engine's sampler, and keeps what it was given.

    logits: by request, the rows [vocab] from which its tokens were chosen, in order, in fp32.
    """

    def __init__(self, engine: Engine) -> None:
        executor: Any = engine._executor
        self._sampler = executor._sampler
        executor._sampler = self
        self._rows: dict[str, list[torch.Tensor]] = defaultdict(list)

    def sample(self, logits: torch.Tensor, sequences: Items[Sequence]) -> Items[Sampled | None]:
        for row, sequence in zip(logits, sequences, strict=True):
            self._rows[sequence.request.request_id].append(row.float().cpu())
        sampled: Items[Sampled | None] = self._sampler.sample(logits, sequences)
        return sampled

    def logits(self, request_id: str) -> torch.Tensor:
        """[tokens, vocab] of everything the request was given to say."""
        return torch.stack(self._rows[request_id])
