"""Two JSON objects, compared key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One key with its values on both sides; None where a side lacks it."""

    key: str
    before: Any
    after: Any

    @property
    def step(self) -> float | None:
        """`after - before` of two numbers, None for anything else."""
        if _is_number(self.before) and _is_number(self.after):
            return float(self.after) - float(self.before)
        return None


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """What differs, by dotted key, sorted. Lists are values: they differ as a whole."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return tuple(
        Change(key, old.get(key), new.get(key))
        for key in sorted({*old, *new})
        # 1 and True are equal to Python, and not to a reader.
        if (type(old.get(key)), old.get(key)) != (type(new.get(key)), new.get(key))
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            items += _flat(value, f"{prefix}{key}.")
        else:
            items.append((prefix + key, value))
    return items


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
