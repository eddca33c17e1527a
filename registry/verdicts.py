"""What the lint says about each feature of a PEFT configuration: honoured, or refused and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What a feature comes to on a served adapter. Keys that every adapter has are not worth a line.
_ACCEPTED: Mapping[str, str] = {
    "alpha_pattern": "each module gets its own alpha",
    "eva_config": "EVA only chooses where the factors begin",
    "exclude_modules": "these modules are left alone",
    "layers_to_transform": "only these layers are adapted",
    "rank_pattern": "each module gets its own rank",
    "use_rslora": "scaled by alpha ∕ √rank",
    "velora_config": "VeLoRA changes the backward pass only",
}


@dataclass(frozen=True)
class Verdict:
    """One feature that a configuration turns on."""

    key: str
    is_accepted: bool
    reason: str


def accepted(key: str, value: object) -> Verdict | None:
    """The verdict on a key that can be served; None where there is nothing to tell."""
    if key == "init_lora_weights" and isinstance(value, str):
        return Verdict(key, True, f"{value} leaves the base weights alone")
    if key not in _ACCEPTED or not is_on(value):
        return None
    return Verdict(key, True, _ACCEPTED[key])


def is_on(value: Any) -> bool:
    """Whether a key changes anything. Zero does: token 0 or module 0 may be meant."""
    return not (value is None or value is False or value in ({}, [], ""))
