"""What a step holds in memory, part by part, as it is held on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.cross_entropy import CHUNK
from training.layer_choice import has_fused_products, is_on
from training.recipe import LoraSettings, Recipe

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
_LOGITS = 4 + 4 + 4  # bytes a logit: in 32 bits, its probability's logarithm, its gradient
_WHOLE_LOGITS = 4 + 4 + 2  # without chunks: in 32 bits, their gradient, and as the model gave them


@dataclass(frozen=True)
class Memory:
    """Bytes by part. `state` of a paged optimizer may move to host memory; `working` comes and goes
    within a step.
    """

    base: int
    adapter: int
    gradients: int
    state: int
    activations: int
    working: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


def memory(
    recipe: Recipe, counts: Counts, config: Any, *, answer_tokens: int, tokens: int | None = None
) -> Memory:
    """The parts of one step whose largest forward pass has so many `tokens`, and a loss, so
    logits, on `answer_tokens` of them; None: `train.batch_size` rows of `train.max_length`.

    Weights, gradients and state are exact. Activations are those of the plain or the fused layers,
    whichever a GPU would run; what a step really took is in docs/benchmarks.md.
    """
    train = recipe.train
    tokens = train.batch_size * train.max_length if tokens is None else tokens
    if recipe.method == "full":  # trained in 32 bits, multiplied in 16
        base, adapter = 4 * counts.base, 0
    else:
        base = round(linear_bytes(recipe.load) * counts.linear) + 2 * counts.rest
        adapter = 4 * counts.trained
    layer = _Layer.of(recipe, config)
    layers, hidden = int(config.num_hidden_layers), int(config.hidden_size)
    checkpointed = train.gradient_checkpointing
    kept = layers * 2 * hidden if checkpointed else layers * layer.kept
    # A layer that is computed again keeps its parts beside its input, which is kept already.
    again = layer.kept - 2 * hidden if checkpointed else 0
    chunk = answer_tokens if train.deepspeed else min(answer_tokens, CHUNK)
    logits = chunk * int(config.vocab_size) * (_WHOLE_LOGITS if train.deepspeed else _LOGITS)
    return Memory(
        base=base,
        adapter=adapter,
        gradients=4 * counts.trained,
        state=round(_STATE[train.optimizer] * counts.trained),
        activations=tokens * kept,
        working=max(logits, tokens * (again + layer.gradients) + layer.weight),
    )


@dataclass(frozen=True)
class _Layer:
    """One decoder layer in bytes a token: what its forward pass keeps, and what its backward pass
    holds beside that; and the bytes of its largest weight, dense.

    Attention is fused, so nothing grows with the square of the length.
    """

    kept: int
    gradients: int
    weight: int

    @classmethod
    def of(cls, recipe: Recipe, config: Any) -> _Layer:
        hidden, inner = int(config.hidden_size), int(config.intermediate_size)
        head = getattr(config, "head_dim", None) or hidden // int(config.num_attention_heads)
        queries = head * int(config.num_attention_heads)
        keys = head * int(config.num_key_value_heads)
        attention = 2 * (2 * queries + 2 * keys)  # q, k, v as they are attended, and what comes out
        packed = recipe.load.quantization != "none"
        weight = 2 * hidden * inner if packed else 0
        # The gradients of gate, of up, and of the layer's output.
        gradients = 2 * (2 * inner + hidden)
        train = recipe.train
        if not (has_fused_products(recipe) and is_on(train.fused, train, on_gpu=True)):
            norms = 2 * (4 * hidden + 2 * hidden + 2 * hidden)  # input in 32 bits, normed, scaled
            mlp = 2 * 4 * inner  # gate, its activation, up, their product
            return cls(norms + attention + mlp, gradients, weight)
        inputs = _adapted_inputs(recipe.lora, hidden, inner)
        return cls(2 * (2 * hidden + 2 * inner + inputs) + attention, gradients, weight)


def _adapted_inputs(lora: LoraSettings, hidden: int, inner: int) -> int:
    """Elements a token that are kept because an adapter's gradient needs them: what goes into q, k
    and v, into gate and up, and into down. What goes into o is attention's own.
    """
    modules = lora.target_modules
    adapted = {"q_proj", "gate_proj", "down_proj"} if modules == "all-linear" else set(modules)
    shared = (("q_proj", "k_proj", "v_proj"), hidden), (("gate_proj", "up_proj"), hidden)
    sizes = (*shared, (("down_proj",), inner))
    return sum(size for names, size in sizes if adapted & set(names))
