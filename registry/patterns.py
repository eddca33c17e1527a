"""PEFT's ways to name modules and give them ranks, followed to the letter.

PEFT 0.21's `check_target_module_exists` and `get_pattern_key` decide what an adapter changed in
training; a test compares both with PEFT itself. Patterns are matched without backtracking
(`registry.matching`): nobody's adapter_config.json can keep a push or a server busy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .adapter_config import CONFIG_FILE
from .errors import ConfigRefused
from .matching import Budget, Pattern, UnusablePattern, branches_at_top

_PEFT_DEFAULT = ("q_proj", "v_proj")  # what PEFT targets on Mistral when told nothing
_LONGEST_PATTERN = 1024
_MOST_PATTERNS = 4096  # in one key: seven projections of more layers than any model has
_LAYER_INDEX = re.compile(r"\.(\d+)\.")

V = TypeVar("V")


@dataclass(frozen=True)
class Targets:
    """Which modules are adapted: PEFT's `check_target_module_exists`."""

    modules: Pattern | str | tuple[str, ...]
    excluded: Pattern | tuple[str, ...]
    layers: frozenset[int] | None
    layers_patterns: tuple[Pattern, ...]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Targets:
        """Parse the keys; raises `ConfigRefused` naming the one at fault."""
        layers = _layers(config)
        modules = _modules(config)
        if layers is not None and not isinstance(modules, tuple):
            raise ConfigRefused(
                f"{CONFIG_FILE}: layers_to_transform needs target_modules as a list",
                param="layers_to_transform",
            )
        return cls(
            modules=modules,
            excluded=_pattern_or_names(config, "exclude_modules"),
            layers=layers,
            layers_patterns=_layers_patterns(config),
        )

    def matches(self, key: str) -> bool:
        """Whether the module of that name is adapted."""
        if self._is_excluded(key):
            return False
        if isinstance(self.modules, str):
            return True  # all-linear
        if isinstance(self.modules, Pattern):
            return self.modules.matches_all(key)
        if key in self.modules:
            return True
        return _ends_with_any(key, self.modules) and self._is_in_layers(key)

    def _is_excluded(self, key: str) -> bool:
        if isinstance(self.excluded, Pattern):
            return bool(self.excluded.text) and self.excluded.matches_all(key)
        return key in self.excluded or _ends_with_any(key, self.excluded)

    def _is_in_layers(self, key: str) -> bool:
        """Module names hold one number between dots, so it is the one that PEFT's pattern finds."""
        if self.layers is None:
            return True
        index = _LAYER_INDEX.search(key)
        fits = any(pattern.matches_start(key) for pattern in self.layers_patterns)
        return fits and index is not None and int(index[1]) in self.layers


@dataclass(frozen=True)
class Ranks:
    """Rank and scale of a module: PEFT's `rank_pattern`, `alpha_pattern` and rsLoRA."""

    rank: int
    alpha: float
    rank_pattern: Sequence[tuple[Pattern, int]]
    alpha_pattern: Sequence[tuple[Pattern, float]]
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
            rank_pattern=[
                (pattern, _rank(value, "rank_pattern"))
                for pattern, value in _pattern_items(config, "rank_pattern")
            ],
            alpha_pattern=[
                (pattern, _alpha(value, "alpha_pattern"))
                for pattern, value in _pattern_items(config, "alpha_pattern")
            ],
            is_rank_stabilized=stabilized,
        )

    def of(self, key: str) -> tuple[int, float, float]:
        """A module's rank, alpha and scaling."""
        rank = _first_match(self.rank_pattern, key, self.rank)
        alpha = _first_match(self.alpha_pattern, key, self.alpha)
        # rsLoRA: Kalajdzievski 2023, https://arxiv.org/abs/2312.03732
        divisor = math.sqrt(rank) if self.is_rank_stabilized else rank
        return rank, alpha, alpha / divisor


def _first_match(patterns: Sequence[tuple[Pattern, V]], key: str, default: V) -> V:
    """PEFT's `get_pattern_key`: the first pattern that matches the whole end of the name."""
    return next((value for pattern, value in patterns if pattern.matches_start(key)), default)


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


def _modules(config: Mapping[str, Any]) -> Pattern | str | tuple[str, ...]:
    named = config.get("target_modules")
    if named is None:
        return _PEFT_DEFAULT
    if isinstance(named, str) and named.lower() == "all-linear":
        return "all-linear"
    return _pattern_or_names(config, "target_modules")


def _pattern_or_names(config: Mapping[str, Any], key: str) -> Pattern | tuple[str, ...]:
    """PEFT reads a string as a pattern, a list as the ends of names."""
    value = _names(config, key)
    return _pattern(value, key, Budget(key)) if isinstance(value, str) else value


def _layers_patterns(config: Mapping[str, Any]) -> tuple[Pattern, ...]:
    names = _names(config, "layers_pattern")
    names = (names,) if isinstance(names, str) else names
    _check_number(names, "layers_pattern")
    for name in names:
        if branches_at_top(name):
            raise _unusable(name, "layers_pattern", "put alternatives in parentheses")
    whole = [rf"(?:^|.*?\.){name}\.\d+\." for name in names] or [r".*?\.[^.]*\.\d+\."]
    budget = Budget("layers_pattern")
    return tuple(_pattern(each, "layers_pattern", budget) for each in whole)


def _pattern_items(config: Mapping[str, Any], key: str) -> list[tuple[Pattern, Any]]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise ConfigRefused(f"{CONFIG_FILE}: {key} must map module names to numbers", param=key)
    _check_number(value, key)
    budget = Budget(key)
    return [(_pattern(rf"(.*\.)?({name})$", key, budget), item) for name, item in value.items()]


def _check_number(patterns: Collection[str], key: str) -> None:
    if len(patterns) > _MOST_PATTERNS:
        raise ConfigRefused(f"{CONFIG_FILE}: {key} has over {_MOST_PATTERNS} patterns", param=key)


def _pattern(text: str, key: str, budget: Budget) -> Pattern:
    if len(text) > _LONGEST_PATTERN:
        raise _unusable(text, key, f"longer than {_LONGEST_PATTERN} characters")
    try:
        return Pattern(text, budget)
    except UnusablePattern as failure:
        raise _unusable(text, key, str(failure)) from None


def _unusable(text: str, key: str, reason: str) -> ConfigRefused:
    return ConfigRefused(
        f"{CONFIG_FILE}: {key}: {text[:80]!r} is not a usable pattern: {reason}", param=key
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
