"""How probable a model finds the right answers: loss, perplexity and token accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from training.rendering import IGNORED


class Labelled(Protocol):
    """Tokens, and for each the label it has: itself, or `IGNORED` where it is given."""

    @property
    def input_ids(self) -> tuple[int, ...]: ...

    @property
    def labels(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Likelihood:
    """What a model gave a text's tokens, each predicted from the true ones before it.

    `nats` is the sum of their negative log-probabilities, `right` how many were the likeliest.
    """

    nats: float = 0.0
    tokens: int = 0
    right: int = 0

    @property
    def loss(self) -> float:
        """Mean cross entropy, nats a token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def accuracy(self) -> float:
        """The share of tokens that greedy decoding would have chosen at their place."""
        return self.right / self.tokens

    def __add__(self, other: Likelihood) -> Likelihood:
        return Likelihood(
            self.nats + other.nats, self.tokens + other.tokens, self.right + other.right
        )


def total(parts: Iterable[Likelihood]) -> Likelihood:
    """All of them as one text: every token weighs alike."""
    return sum(parts, Likelihood())


@torch.no_grad()
def likelihoods(model: Any, texts: Sequence[Labelled], *, batch_size: int) -> list[Likelihood]:
    """What `model` gives the labelled tokens of each text, in the texts' order."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row].input_ids))
    found = [Likelihood()] * len(texts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        measured = _batch(model, [texts[row] for row in rows])
        for row, likelihood in zip(rows, measured, strict=True):
            found[row] = likelihood
    return found


def _batch(model: Any, texts: Sequence[Labelled]) -> list[Likelihood]:
    """Padded on the right, where causal attention keeps it out of everything that counts."""
    shape = (len(texts), max(len(text.input_ids) for text in texts))
    input_ids = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for row, text in enumerate(texts):
        input_ids[row, : len(text.input_ids)] = torch.tensor(text.input_ids)
        labels[row, : len(text.labels)] = torch.tensor(text.labels)
    labels = labels[:, 1:].to(model.device)  # the logits at a position are for the next token
    kept = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)
    labels = labels[:, kept]
    outputs = model(input_ids=input_ids.to(model.device), use_cache=False, logits_to_keep=kept)
    logits = outputs.logits.float()  # [batch, kept, vocab]
    nats = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(labels)
    right = logits.argmax(dim=-1) == labels
    return [
        Likelihood(float(row_nats.sum()), int((row != IGNORED).sum()), int(row_right.sum()))
        for row_nats, row, row_right in zip(nats.double(), labels, right, strict=True)
    ]
