"""PEFT's ways to name modules and give them ranks, followed to the letter.

PEFT 0.21's `check_target_module_exists` and `get_pattern_key` decide what an adapter changed in
training; a test compares both with PEFT itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .adapter_config import CONFIG_FILE
from .errors import ConfigRefused

_PEFT_DEFAULT = ("q_proj", "v_proj")  # what PEFT targets on Mistral when told nothing
_LONGEST_PATTERN = 1024

V = TypeVar("V")


@dataclass(frozen=True)
class Targets:
    """Which modules are adapted: PEFT's `check_target_module_exists`."""

    modules: str | tuple[str, ...]
    excluded: str | tuple[str, ...]
    layers: frozenset[int] | None
    layers_patterns: tuple[str, ...]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Targets:
        """Parse the keys; raises `ConfigRefused` naming the one at fault."""
        named = config.get("target_modules") is not None
        modules = _names(config, "target_modules") if named else _PEFT_DEFAULT
        if isinstance(modules, str):
            if modules.lower() == "all-linear":
                modules = "all-linear"
            else:
                _check_pattern(modules, "target_modules")
        excluded = _names(config, "exclude_modules")
        if isinstance(excluded, str):
            _check_pattern(excluded, "exclude_modules")
        patterns = _names(config, "layers_pattern")
        patterns = (patterns,) if isinstance(patterns, str) else patterns
        for pattern in patterns:
            _check_pattern(pattern, "layers_pattern")
        layers = _layers(config)
        if layers is not None and isinstance(modules, str):
            raise ConfigRefused(
                f"{CONFIG_FILE}: layers_to_transform needs target_modules as a list",
                param="layers_to_transform",
            )
        return cls(modules, excluded, layers, patterns)

    def matches(self, key: str) -> bool:
        """Whether the module of that name is adapted."""
        if self._is_excluded(key):
            return False
        if self.modules == "all-linear":
            return True
        if isinstance(self.modules, str):
            return re.fullmatch(self.modules, key) is not None
        if key in self.modules:
            return True
        return _ends_with_any(key, self.modules) and self._is_in_layers(key)

    def _is_excluded(self, key: str) -> bool:
        if isinstance(self.excluded, str):
            return bool(self.excluded) and re.fullmatch(self.excluded, key) is not None
        return key in self.excluded or _ends_with_any(key, self.excluded)

    def _is_in_layers(self, key: str) -> bool:
        if self.layers is None:
            return True
        expressions = [rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\." for pattern in self.layers_patterns]
        for expression in expressions or [r".*?\.[^.]*\.(?P<idx>\d+)\."]:
            if match := re.match(expression, key):
                return int(match["idx"]) in self.layers
        return False


@dataclass(frozen=True)
class Ranks:
    """Rank and scale of a module: PEFT's `rank_pattern`, `alpha_pattern` and rsLoRA."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    is_rank_stabilized: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Ranks:
        """Parse the keys; raises `ConfigRefused` naming the one at fault."""
        stabilized = config.get("use_rslora", False)
        if not isinstance(stabilized, bool):
            raise ConfigRefused(
                f"{CONFIG_FILE}: use_rslora must be true or false", param="use_rslora"
            )
        return cls(
            rank=_rank(config.get("r", 8), "r"),
            alpha=_alpha(config.get("lora_alpha", 8), "lora_alpha"),
            rank_pattern={
                pattern: _rank(value, "rank_pattern")
                for pattern, value in _pattern_items(config, "rank_pattern")
            },
            alpha_pattern={
                pattern: _alpha(value, "alpha_pattern")
                for pattern, value in _pattern_items(config, "alpha_pattern")
            },
            is_rank_stabilized=stabilized,
        )

    def of(self, key: str) -> tuple[int, float, float]:
        """A module's rank, alpha and scaling."""
        rank = _first_match(self.rank_pattern, key, self.rank)
        alpha = _first_match(self.alpha_pattern, key, self.alpha)
        # rsLoRA: Kalajdzievski 2023, https://arxiv.org/abs/2312.03732
        divisor = math.sqrt(rank) if self.is_rank_stabilized else rank
        return rank, alpha, alpha / divisor


def _first_match(patterns: Mapping[str, V], key: str, default: V) -> V:
    """PEFT's `get_pattern_key`: the first pattern that matches the whole end of the name."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", key):
            return value
    return default


def _ends_with_any(key: str, names: Sequence[str]) -> bool:
    return any(key.endswith(f".{name}") for name in names)


def _names(config: Mapping[str, Any], key: str) -> str | tuple[str, ...]:
    """A key that holds one pattern, a list of names, or nothing."""
    value = config.get(key)
    if value is None:
        return ()
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise ConfigRefused(f"{CONFIG_FILE}: {key} must be a string or a list of strings", param=key)


def _layers(config: Mapping[str, Any]) -> frozenset[int] | None:
    value = config.get("layers_to_transform")
    if value is None or value == []:  # PEFT reads an empty list as all layers
        return None
    layers = value if isinstance(value, list) else [value]
    if not all(isinstance(layer, int) and not isinstance(layer, bool) for layer in layers):
        raise ConfigRefused(
            f"{CONFIG_FILE}: layers_to_transform must be an integer or a list of integers",
            param="layers_to_transform",
        )
    return frozenset(layers)


def _pattern_items(config: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise ConfigRefused(f"{CONFIG_FILE}: {key} must map module names to numbers", param=key)
    for pattern in value:
        _check_pattern(pattern, key)
    return list(value.items())


def _check_pattern(pattern: str, key: str) -> None:
    """Refuse what is no regular expression, in the form PEFT would compile it."""
    try:
        re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, OverflowError, RecursionError) as failure:
        reason = str(failure)
    else:
        if len(pattern) <= _LONGEST_PATTERN:
            return
        reason = f"longer than {_LONGEST_PATTERN} characters"
    raise ConfigRefused(
        f"{CONFIG_FILE}: {key}: {pattern[:80]!r} is not a usable pattern: {reason}", param=key
    )


def _rank(value: object, key: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ConfigRefused(f"{CONFIG_FILE}: {key}: a rank must be a positive integer", param=key)


def _alpha(value: object, key: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            alpha = float(value)
        except OverflowError:
            alpha = math.inf
        if math.isfinite(alpha) and alpha != 0:
            return alpha
    raise ConfigRefused(f"{CONFIG_FILE}: {key}: alpha must be a finite number, not 0", param=key)
