"""Two adapters in weight space: norm and angle of each update, from the factors alone.

With ΔW = s·B·A, the inner product of two updates is s₁s₂ Σ (B₁ᵀB₂) ∘ (A₁A₂ᵀ): two products of
rank-sized matrices instead of two dense ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.adapter_config import CONFIG_FILE
from registry.adapters import PROJECTIONS, AdapterSpec, ModuleSpec, Projection
from registry.canonical import Progress
from registry.lint import WEIGHTS_FILE, read_config
from registry.safetensors_file import SafetensorsFile

Site = tuple[int, Projection]
Factor = NDArray[np.float64]


class ShapesDiffer(ValueError):
    """A projection has another shape on the other side: the bases are of other shapes."""


@dataclass(frozen=True)
class Products:
    """Inner products of two updates: with themselves and with each other."""

    before: float
    after: float
    across: float

    def __add__(self, other: Products) -> Products:
        return Products(
            self.before + other.before, self.after + other.after, self.across + other.across
        )

    @property
    def norm_before(self) -> float:
        """Frobenius norm of the old update."""
        return math.sqrt(max(self.before, 0.0))

    @property
    def norm_after(self) -> float:
        """Frobenius norm of the new update."""
        return math.sqrt(max(self.after, 0.0))

    @property
    def cosine(self) -> float | None:
        """1: the same direction, 0: unrelated, -1: opposite; None where a side is zero."""
        length = self.norm_before * self.norm_after
        return max(-1.0, min(1.0, self.across / length)) if length else None

    @property
    def distance(self) -> float:
        """Frobenius norm of the difference."""
        return math.sqrt(max(self.before + self.after - 2 * self.across, 0.0))


@dataclass(frozen=True)
class ModuleDiff:
    """One projection of one layer on both sides; a side that does not adapt it counts as zero."""

    layer: int
    projection: Projection
    products: Products


@dataclass(frozen=True)
class WeightsDiff:
    """Every projection that either side adapts, by layer."""

    modules: tuple[ModuleDiff, ...]

    @cached_property
    def layers(self) -> Mapping[int, Products]:
        """Each layer's projections taken together."""
        sums: dict[int, Products] = {}
        for module in self.modules:
            sums[module.layer] = sums.get(module.layer, _ZERO) + module.products
        return dict(sorted(sums.items()))

    @cached_property
    def total(self) -> Products:
        """All projections taken together, as one long vector."""
        return sum((module.products for module in self.modules), _ZERO)

    @property
    def projections(self) -> tuple[Projection, ...]:
        """Those adapted on either side, in the order of `PROJECTIONS`."""
        used = {module.projection for module in self.modules}
        return tuple(projection for projection in PROJECTIONS if projection in used)


_ZERO = Products(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Side:
    """One adapter's factors, read as they are needed."""

    spec: AdapterSpec
    file: SafetensorsFile

    @classmethod
    def open(cls, files: Mapping[str, Path], base_config: Mapping[str, Any]) -> Side:
        """An adapter's files on a base's shape fields; raises a `PushRefused`."""
        spec = AdapterSpec.from_config(read_config(files[CONFIG_FILE]), base_config)
        return cls(spec, SafetensorsFile.open(files[WEIGHTS_FILE], name=WEIGHTS_FILE))

    def factors(self, site: Site) -> tuple[Factor, Factor] | None:
        """lora_A [rank, in] and scaled lora_B [out, rank]; None where nothing is adapted."""
        module = self.spec.modules.get(site)
        if module is None:
            return None
        wide = [
            self.file.read(self.spec.tensor_name(*site, part)).astype(np.float64)
            for part in ("lora_A", "lora_B")
        ]
        return wide[0], wide[1] * module.scaling


def compare_weights(before: Side, after: Side, progress: Progress | None = None) -> WeightsDiff:
    """Compare all updates; needs both adapters to be of one base's shape.

    Raises `ShapesDiffer` otherwise.
    """
    sites = sorted(
        {*before.spec.modules, *after.spec.modules},
        key=lambda site: (site[0], PROJECTIONS.index(site[1])),
    )
    return WeightsDiff(tuple(_compare(before, after, sites, progress)))


def _compare(
    before: Side, after: Side, sites: Sequence[Site], progress: Progress | None
) -> Iterable[ModuleDiff]:
    for done, site in enumerate(sites, start=1):
        _check_shapes(site, before.spec.modules.get(site), after.spec.modules.get(site))
        old, new = before.factors(site), after.factors(site)
        products = Products(_inner(old, old), _inner(new, new), _inner(old, new))
        yield ModuleDiff(*site, products)
        if progress is not None:
            progress("comparing weights", done, len(sites))


def _inner(left: tuple[Factor, Factor] | None, right: tuple[Factor, Factor] | None) -> float:
    """<B₁A₁, B₂A₂> by the Gram matrices of the factors, [rank₁, rank₂] each."""
    if left is None or right is None:
        return 0.0
    return float(((left[1].T @ right[1]) * (left[0] @ right[0].T)).sum())


def _check_shapes(site: Site, old: ModuleSpec | None, new: ModuleSpec | None) -> None:
    if old is None or new is None:
        return
    shapes = [(side.out_features, side.in_features) for side in (old, new)]
    if shapes[0] != shapes[1]:
        raise ShapesDiffer(f"layer {site[0]} {site[1]} is {shapes[0]} before and {shapes[1]} after")
