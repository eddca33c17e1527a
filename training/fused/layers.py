"""Which layers of a model run fused, for as long as it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora import LoraLayer
from transformers.models.mistral.modeling_mistral import (
    MistralAttention,
    MistralMLP,
    MistralRMSNorm,
)

from training.gptq import GptqLinear
from training.model import recompute

from .attention import Rows, attend
from .gate import gated
from .lora import Beside, frozen_product, lora_product
from .norm import rms_norm
from .recomputing import Recomputing
from .rotary import rotated
from .weights import FrozenWeight, autocast_dtype, frozen_weight

# Any name that transformers has no mask for: it then makes none.
_NO_MASK = "rows behind one another"


@contextmanager
def fused(model: Any, *, flat: bool, checkpointed: bool) -> Iterator[None]:
    """Run the layers of `model` that are known here as their fused twins.

    They compute the same but for rounding. `flat` says that all rows of a batch lie behind one
    another, with `cu_seq_lens_q` and `max_length_q` beside them, as transformers calls it;
    `checkpointed`, that layers are computed again in the backward pass.
    """
    config, recomputing = model.config, Recomputing()
    attention = config._attn_implementation
    flat = flat and not config.attention_dropout  # which ours has not: transformers' stays
    changed = []
    for name, module in model.named_modules():
        forward = _fused_forward(module, name, recomputing, flat=flat)
        if forward is not None:
            module.__dict__["forward"] = forward
            changed.append(module)
    if flat:
        config._attn_implementation = _NO_MASK
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if checkpointed:
        recompute(base, recomputing.contexts)
    try:
        yield
    finally:
        if checkpointed:
            recompute(base)
        config._attn_implementation = attention
        for module in changed:
            del module.__dict__["forward"]


def _fused_forward(
    module: Any, name: str, recomputing: Recomputing, *, flat: bool
) -> Callable[..., Any] | None:
    if isinstance(module, LoraLayer):
        weight = frozen_weight(module.get_base_layer())
        if weight is None or not _is_plain(module):
            return None
        # What a decoder layer computes last is read by nothing that it keeps.
        last = recomputing if name.endswith(".mlp.down_proj") else None
        return partial(_adapted, module, weight, last)
    if isinstance(module, Linear4bit | GptqLinear):
        weight = frozen_weight(module)
        return None if weight is None else partial(frozen_product, weight=weight)
    if isinstance(module, MistralRMSNorm):
        return None if module.weight.requires_grad else partial(_norm, module)
    if isinstance(module, MistralMLP):
        return partial(_mlp, module) if module.config.hidden_act == "silu" else None
    if isinstance(module, MistralAttention) and flat:
        return partial(_attention, module)
    return None


def _is_plain(layer: Any) -> bool:
    """One pair of factors without bias that is simply added."""
    if len(layer.active_adapters) != 1 or layer.merged or layer.disable_adapters:
        return False
    [active] = layer.active_adapters
    variant = active in getattr(layer, "lora_variant", {}) or active not in layer.lora_A
    return not variant and not layer.lora_bias[active]


def _adapted(
    layer: Any, weight: FrozenWeight, last: Recomputing | None, x: torch.Tensor
) -> torch.Tensor:
    [active] = layer.active_adapters
    a, b = layer.lora_A[active].weight, layer.lora_B[active].weight
    dropout = getattr(layer.lora_dropout[active], "p", 0.0) if layer.training else 0.0
    how = Beside(
        weight,
        scaling=float(layer.scaling[active]),
        dropout=float(dropout),
        dtype=autocast_dtype(x.device) or a.dtype,
        unused=last is not None and last.now,
    )
    return lora_product(x, a, b, how)


def _norm(layer: Any, x: torch.Tensor) -> torch.Tensor:
    if x.dtype != layer.weight.dtype:
        return type(layer).forward(layer, x)  # type: ignore[no-any-return]
    return rms_norm(x, layer.weight, layer.variance_epsilon)


def _mlp(layer: Any, x: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = layer.down_proj(gated(layer.gate_proj(x), layer.up_proj(x)))
    return product


def _attention(
    layer: Any,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    shape = (hidden_states.shape[1], -1, layer.head_dim)
    q, k, v = (
        project(hidden_states).view(shape) for project in (layer.q_proj, layer.k_proj, layer.v_proj)
    )
    cos, sin = (part[0].to(q.dtype) for part in position_embeddings)
    mixed = attend(
        rotated(q, cos, sin),
        rotated(k, cos, sin),
        v,
        Rows(cu_seq_lens_q, max_length_q),
        scale=layer.scaling,
        window=getattr(layer.config, "sliding_window", None),
    )
    return layer.o_proj(mixed.reshape(1, shape[0], -1)), None
