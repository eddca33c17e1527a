"""How probable a prompt's own tokens are: read off the pass that computes them anyway."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch

from server.engine.batch import Chunk
from server.engine.marks import on_host
from server.engine.sampled import Sampled

PIECE = 64  # rows scored at once: their logits in fp32 are all the memory that this takes
ToLogits = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ChunkScores:
    """Of the tokens that follow a chunk's rows within the prompt.

    logprobs: [tokens]. top_values, top_ids: [tokens, alternatives], most probable first.
    """

    chunk: Chunk
    logprobs: torch.Tensor
    top_values: torch.Tensor
    top_ids: torch.Tensor

    @classmethod
    def of(cls, chunk: Chunk, hidden: torch.Tensor, to_logits: ToLogits) -> ChunkScores:
        """hidden: [tokens of the chunk, …], of which `to_logits` makes [tokens, vocab]."""
        targets = torch.tensor(_targets(chunk), device=hidden.device)
        count = chunk.sequence.params.prompt_logprobs or 0
        pieces = [
            _score(to_logits(rows), following, count)
            for rows, following in zip(
                torch.split(hidden[: len(targets)], PIECE), torch.split(targets, PIECE), strict=True
            )
        ]
        return cls(chunk, *(on_host(torch.cat(part)) for part in zip(*pieces, strict=True)))

    def record(self) -> None:
        """Add to the sequence's scores those that it has not got; once the device is done."""
        known = self.chunk.sequence.scores
        new = slice(len(known) - self.chunk.start, None)
        parts = zip(
            _targets(self.chunk)[new],
            self.logprobs[new].tolist(),
            self.top_ids[new].tolist(),
            self.top_values[new].tolist(),
            strict=True,
        )
        known += [
            Sampled(token_id, logprob, tuple(zip(ids, values, strict=True)))
            for token_id, logprob, ids, values in parts
        ]


def take_scores(logits: torch.Tensor, chunks: Items[Chunk]) -> torch.Tensor:
    """Record the scores in `logits` [rows of `logit_rows`, vocab]; the rows that sample are left.

    Where the host runs steps, logits are there at once.
    """
    sampling, row = [], 0
    for chunk in chunks:
        count = chunk.num_tokens if chunk.is_scored else int(chunk.samples)
        if chunk.is_scored:
            ChunkScores.of(chunk, logits[row : row + count], lambda rows: rows).record()
        row += count
        if chunk.samples:
            sampling.append(row - 1)
    return logits[sampling]


def logit_rows(chunks: Items[Chunk]) -> list[int]:
    """Rows of a step whose logits are wanted: a scored chunk's all, else the one that samples."""
    wanted: list[int] = []
    row = 0
    for chunk in chunks:
        end = row + chunk.num_tokens
        wanted += range(row if chunk.is_scored else end - int(chunk.samples), end)
        row = end
    return wanted


def _targets(chunk: Chunk) -> list[int]:
    """The prompt's token after each of the chunk's, as far as there is one."""
    end = min(chunk.end + 1, chunk.sequence.num_prompt_tokens)
    return chunk.sequence.token_ids[chunk.start + 1 : end]


def _score(
    logits: torch.Tensor, targets: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logprobs = logits.float().log_softmax(-1)
    values, ids = logprobs.topk(count)
    return logprobs.gather(-1, targets[:, None])[:, 0], values, ids
