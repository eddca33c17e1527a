"""What an `adapter_config.json` means on a base: which projections, at what rank and scale.

Matching follows PEFT 0.21 exactly (`registry.patterns`), so that an adapter acts here on the
modules it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .adapter_config import CONFIG_FILE, judge
from .bases import shape_fields
from .errors import ConfigRefused
from .matching import TooManySteps
from .patterns import Ranks, Targets
from .verdicts import Verdict

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Part = Literal["lora_A", "lora_B"]

PROJECTIONS: tuple[Projection, ...] = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)
_ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
_EMBEDDINGS = ("lm_head", "model.embed_tokens")


@dataclass(frozen=True)
class ModuleSpec:
    """One adapted projection: the update is `scaling * lora_B @ lora_A`.

    `lora_A` is [rank, in_features] and `lora_B` [out_features, rank].
    """

    rank: int
    alpha: float
    scaling: float
    in_features: int
    out_features: int


@dataclass(frozen=True)
class AdapterSpec:
    """Every adapted projection of one adapter, by (layer index, projection name)."""

    modules: Mapping[tuple[int, Projection], ModuleSpec]
    warnings: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @classmethod
    def from_config(
        cls, adapter_config: Mapping[str, Any], base_config: Mapping[str, Any]
    ) -> AdapterSpec:
        """Parse a PEFT configuration against a base's shape fields.

        Raises `ConfigRefused` naming the key for what cannot be served, and for values that
        PEFT itself would not take.
        """
        judgement = judge(adapter_config)
        shapes = shape_fields(base_config)
        targets = Targets.from_config(adapter_config)
        ranks = Ranks.from_config(adapter_config)
        try:
            _refuse_embeddings(targets)
            modules = {
                (layer, projection): _module(ranks, key, _features(projection, shapes))
                for layer in range(shapes["num_hidden_layers"])
                for projection in PROJECTIONS
                if targets.matches(key := module_key(layer, projection))
            }
        except TooManySteps as failure:
            raise ConfigRefused(f"{CONFIG_FILE}: {failure}", param=failure.key) from None
        if not modules:
            raise ConfigRefused(
                f"{CONFIG_FILE}: target_modules {targets.modules!r} matches no projection of the "
                f"base; use some of {', '.join(PROJECTIONS)}",
                param="target_modules",
            )
        return cls(modules, judgement.warnings, judgement.verdicts)

    @property
    def max_rank(self) -> int:
        """The rank a slot needs to hold this adapter."""
        return max(module.rank for module in self.modules.values())

    @property
    def projections(self) -> tuple[Projection, ...]:
        """The projections adapted in at least one layer, in the order of `PROJECTIONS`."""
        used = {projection for _, projection in self.modules}
        return tuple(projection for projection in PROJECTIONS if projection in used)

    @property
    def tensors(self) -> dict[str, tuple[int, int]]:
        """The name and shape of every tensor the adapter must have, and no other."""
        shapes: dict[str, tuple[int, int]] = {}
        for (layer, projection), module in self.modules.items():
            shapes[tensor_name(layer, projection, "lora_A")] = (module.rank, module.in_features)
            shapes[tensor_name(layer, projection, "lora_B")] = (module.out_features, module.rank)
        return shapes

    @staticmethod
    def tensor_name(layer: int, projection: Projection, part: Part) -> str:
        """PEFT's name of one factor in `adapter_model.safetensors`."""
        return tensor_name(layer, projection, part)


def module_key(layer: int, projection: Projection) -> str:
    """The module's name inside `MistralForCausalLM`, which PEFT matches patterns against."""
    block = "self_attn" if projection in _ATTENTION else "mlp"
    return f"model.layers.{layer}.{block}.{projection}"


def tensor_name(layer: int, projection: Projection, part: Part) -> str:
    """PEFT's name of one factor in `adapter_model.safetensors`."""
    return f"base_model.model.{module_key(layer, projection)}.{part}.weight"


def _features(projection: Projection, shapes: Mapping[str, int]) -> tuple[int, int]:
    """A projection's (in_features, out_features)."""
    hidden, intermediate = shapes["hidden_size"], shapes["intermediate_size"]
    queries = shapes["num_attention_heads"] * shapes["head_dim"]
    keys = shapes["num_key_value_heads"] * shapes["head_dim"]
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, intermediate),
        "up_proj": (hidden, intermediate),
        "down_proj": (intermediate, hidden),
    }[projection]


def _module(ranks: Ranks, key: str, features: tuple[int, int]) -> ModuleSpec:
    rank, alpha, scaling = ranks.of(key)
    return ModuleSpec(rank, alpha, scaling, *features)


def _refuse_embeddings(targets: Targets) -> None:
    for key in _EMBEDDINGS:
        if targets.modules != "all-linear" and targets.matches(key):
            raise ConfigRefused(
                f"{CONFIG_FILE}: target_modules adapts {key}, which cannot be hot-loaded because "
                f"embeddings are shared by all adapters; target {', '.join(PROJECTIONS)} only",
                param="target_modules",
            )
