"""From logits to the next token of each sequence, with its log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Rows

import torch

from server.engine.sampled import Sampled, Top
from server.engine.sequence import Sequence
from server.kernels.sampling import (
    draw,
    keep_allowed,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    largest,
    penalize,
)

Largest = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Sampler:
    """Applies each sequence's own parameters; greedy sequences share one look for the largest."""

    def __init__(self, eos_token_ids: frozenset[int], largest: Largest = largest) -> None:
        self._eos = eos_token_ids
        self._largest = largest

    def sample(self, logits: torch.Tensor, sequences: Rows[Sequence]) -> list[Sampled | None]:
        """Choose for each row of `logits` [samples, vocab].

        None where they are not finite, or where a grammar failed and allows nothing.
        """
        if not sequences:
            return []
        values, best = self._largest(logits)
        return [
            self._choose(logits[row], sequences[row], token_id) if math.isfinite(value) else None
            for row, (token_id, value) in enumerate(
                zip(best.tolist(), values.tolist(), strict=True)
            )
        ]

    def _choose(self, logits: torch.Tensor, sequence: Sequence, best: int) -> Sampled | None:
        params = sequence.params
        if params.is_greedy and params.logprobs is None and not self._shapes(sequence):
            return Sampled(best)
        logits = logits.float().cpu()  # seeded noise is drawn on the CPU, on every device alike
        token_id = best
        if not params.is_greedy or self._shapes(sequence):
            shaped = self._shape(logits, sequence)
            if sequence.matcher is not None and shaped.max() == -torch.inf:
                return None
            if params.is_greedy:
                token_id = int(shaped.argmax())
            else:
                token_id = int(draw(self._filter(shaped, sequence), sequence.generator))
        if params.logprobs is None:
            return Sampled(token_id)
        return _with_logprobs(logits, token_id, params.logprobs)

    def _shapes(self, sequence: Sequence) -> bool:
        params = sequence.params
        too_short = sequence.num_generated < params.min_tokens
        changed = params.needs_history or bool(params.logit_bias) or too_short
        return changed or sequence.matcher is not None

    def _shape(self, logits: torch.Tensor, sequence: Sequence) -> torch.Tensor:
        """Grammar, bias, minimum length and penalties: what holds for greedy decoding too."""
        params = sequence.params
        if sequence.matcher is not None:
            logits = keep_allowed(logits, sequence.matcher.mask())
        if params.logit_bias:
            logits = logits.clone()
            ids = torch.tensor(list(params.logit_bias))
            logits[ids] += torch.tensor(list(params.logit_bias.values()))
        if sequence.num_generated < params.min_tokens:
            logits = _without(logits, self._eos | set(params.stop_token_ids))
        if params.needs_history:
            logits = penalize(
                logits,
                torch.tensor(sequence.request.prompt_token_ids),
                torch.tensor(sequence.generated_ids, dtype=torch.int64),
                presence=params.presence_penalty,
                frequency=params.frequency_penalty,
                repetition=params.repetition_penalty,
            )
        return logits

    def _filter(self, logits: torch.Tensor, sequence: Sequence) -> torch.Tensor:
        params = sequence.params
        logits = logits / params.temperature
        if params.min_p > 0:
            logits = keep_min_p(logits, params.min_p)
        if params.top_k > 0:
            logits = keep_top_k(logits, params.top_k)
        if params.top_p < 1:
            logits = keep_top_p(logits, params.top_p)
        return logits


def _without(logits: torch.Tensor, token_ids: frozenset[int]) -> torch.Tensor:
    """`logits` that leave these tokens out, unless a grammar lets nothing else come."""
    others = logits.clone()
    others[list(token_ids)] = -torch.inf
    return logits if others.max() == -torch.inf else others


def _with_logprobs(logits: torch.Tensor, token_id: int, count: int) -> Sampled:
    """Log-probabilities of the model itself, before temperature and filters, as OpenAI reports."""
    logprobs = logits.log_softmax(-1)
    top: Top = ()
    if count:
        values, ids = logprobs.topk(count)
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return Sampled(token_id, float(logprobs[token_id]), top)
