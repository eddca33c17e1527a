"""What a step holds in memory, part by part, as it is held on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.recipe import Recipe

from .bits import linear_bytes
from .counting import Counts

# Optimizer state in bytes a trained parameter; 8-bit states have a 32-bit constant each 256.
_STATE = {
    "adamw": 8.0,
    "adamw_8bit": 2.0 + 2 * 4 / 256,
    "paged_adamw_8bit": 2.0 + 2 * 4 / 256,
    "paged_adamw_32bit": 8.0,
    "sgd": 0.0,
    "adafactor": 0.0,  # rows and columns only: next to nothing
}
_LOGITS = 4 + 4 + 2  # bytes a logit: in 32 bits, their gradient, and as the model gave them


@dataclass(frozen=True)
class Memory:
    """Bytes by part. `state` of a paged optimizer may move to host memory."""

    base: int
    adapter: int
    gradients: int
    state: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


def memory(recipe: Recipe, counts: Counts, config: Any, *, answer_tokens: int) -> Memory:
    """The parts of one step over `train.batch_size` rows of `train.max_length` tokens.

    `answer_tokens` of each row have a loss, and so logits. Weights, gradients and state are exact;
    activations are an estimate that a test holds to what a step of a small model saves.
    """
    train = recipe.train
    tokens = train.batch_size * train.max_length
    if recipe.method == "full":  # trained in 32 bits, multiplied in 16
        base, adapter = 4 * counts.base, 0
    else:
        base = round(linear_bytes(recipe.load) * counts.linear) + 2 * counts.rest
        adapter = 4 * counts.trained
    return Memory(
        base=base,
        adapter=adapter,
        gradients=4 * counts.trained,
        state=round(_STATE[train.optimizer] * counts.trained),
        activations=tokens * activation_bytes(config, checkpointing=train.gradient_checkpointing),
        logits=train.batch_size * answer_tokens * config.vocab_size * _LOGITS,
    )


def activation_bytes(config: Any, *, checkpointing: bool) -> int:
    """Bytes a token that the forward pass keeps for the backward pass, all layers together.

    Attention is fused, so nothing grows with the square of the length. With checkpointing a layer
    keeps its input, and one layer at a time is computed again.
    """
    layer, layers = _layer_bytes(config), int(config.num_hidden_layers)
    return layers * 2 * int(config.hidden_size) + layer if checkpointing else layers * layer


def _layer_bytes(config: Any) -> int:
    """What one layer keeps: 16-bit inputs of every product, norms in 32 bits."""
    hidden, inner = int(config.hidden_size), int(config.intermediate_size)
    head = getattr(config, "head_dim", None) or hidden // int(config.num_attention_heads)
    queries, keys = head * int(config.num_attention_heads), head * int(config.num_key_value_heads)
    norms = 2 * (4 * hidden + 2 * hidden + 2 * hidden)  # input in 32 bits, normed, scaled
    attention = 2 * (2 * queries + 2 * keys)  # q, k, v as they are attended, and what comes out
    mlp = 2 * 4 * inner  # gate, its activation, up, their product
    return norms + attention + mlp
