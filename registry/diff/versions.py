"""Two versions side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from registry.adapter_config import CONFIG_FILE
from registry.canonical import Progress
from registry.hats import Hat
from registry.lint import read_config
from registry.lock import Lock
from registry.versions import Version

from .changes import Change, changes
from .documents import ChangeDocument, DiffDocument, ProductsDocument, WeightsDocument
from .weights import Products, ShapesDiffer, Side, WeightsDiff, compare_weights

_SETS = {"target_modules", "exclude_modules", "layers_to_transform"}  # of adapter_config.json


class Source(Protocol):
    """What a diff needs of a registry."""

    def resolve(self, reference: str) -> Version: ...

    def files(self, version: Version) -> Mapping[str, Path]: ...

    def lock(self, version: Version) -> Lock: ...

    def hat(self, version: Version) -> Hat: ...


@dataclass(frozen=True)
class VersionDiff:
    """What changed from `before` to `after`. `weights` is None between bases of other shapes."""

    before: Version
    after: Version
    documents: Mapping[str, tuple[Change, ...]]
    weights: WeightsDiff | None

    def to_dict(self) -> DiffDocument:
        """As JSON."""
        return {
            "before": {"ref": self.before.ref, "digest": self.before.digest},
            "after": {"ref": self.after.ref, "digest": self.after.digest},
            "base": self._changes("base"),
            "config": self._changes("config"),
            "hat": self._changes("hat"),
            "recipe": self._changes("recipe"),
            "data": self._changes("data"),
            "environment": self._changes("environment"),
            "metrics": self._changes("metrics"),
            "weights": None if self.weights is None else _weights(self.weights),
        }

    def _changes(self, name: str) -> list[ChangeDocument]:
        return [
            {"key": each.key, "before": each.before, "after": each.after, "step": each.step}
            for each in self.documents[name]
        ]


def diff_versions(
    registry: Source, before: str, after: str, *, progress: Progress | None = None
) -> VersionDiff:
    """Compare two references, of one adapter or of two. Raises what resolving them raises."""
    old, new = registry.resolve(before), registry.resolve(after)
    locks = [registry.lock(version) for version in (old, new)]
    files = [registry.files(version) for version in (old, new)]
    documents = {
        name: changes(*sides)
        for name, sides in {
            "base": [_base(lock) for lock in locks],
            "config": [_config(paths[CONFIG_FILE]) for paths in files],
            "hat": [_hat(registry.hat(version)) for version in (old, new)],
            "recipe": [lock.recipe for lock in locks],
            "data": [lock.data for lock in locks],
            "environment": [lock.environment for lock in locks],
            "metrics": [lock.metrics for lock in locks],
        }.items()
    }
    try:
        old_side, new_side = (
            Side.open(paths, lock.base.config) for paths, lock in zip(files, locks, strict=True)
        )
        weights = compare_weights(old_side, new_side, progress)
    except ShapesDiffer:
        weights = None
    return VersionDiff(old, new, documents, weights)


def _base(lock: Lock) -> dict[str, Any]:
    return lock.base.model_dump(mode="json", include={"name", "fingerprint", "quantization"})


def _config(path: Path) -> dict[str, Any]:
    """An adapter's configuration, its sets in order: PEFT writes them as they come."""
    values = read_config(path)
    for key in _SETS & values.keys():
        if isinstance(values[key], list):
            values[key] = sorted(values[key], key=str)
    return values


def _hat(hat: Hat) -> dict[str, Any]:
    """The hat, its template by digest: a template in a table helps nobody."""
    values = hat.model_dump(mode="json", exclude={"chat_template"}, exclude_defaults=True)
    return {**values, "chat_template": hat.template_sha256}


def _weights(weights: WeightsDiff) -> WeightsDocument:
    return {
        "total": _products(weights.total),
        "layers": [
            {"layer": layer, **_products(products)} for layer, products in weights.layers.items()
        ],
        "modules": [
            {
                "layer": module.layer,
                "projection": module.projection,
                **_products(module.products),
            }
            for module in weights.modules
        ],
    }


def _products(products: Products) -> ProductsDocument:
    return {
        "norm_before": products.norm_before,
        "norm_after": products.norm_after,
        "cosine": products.cosine,
        "distance": products.distance,
    }
