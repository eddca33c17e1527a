"""What a diff is as JSON, as types."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict


class SideDocument(TypedDict):
    """A version that was compared."""

    ref: str
    digest: str


class ChangeDocument(TypedDict):
    """One key with its values on both sides; `step` is the difference of two numbers."""

    key: str
    before: Any
    after: Any
    step: float | None


class ProductsDocument(TypedDict):
    """Two updates: Frobenius norms, the angle's cosine, and the norm of their difference."""

    norm_before: float
    norm_after: float
    cosine: float | None
    distance: float


class LayerDocument(ProductsDocument):
    """A layer's projections taken together."""

    layer: int


class ModuleDocument(LayerDocument):
    """One projection of one layer."""

    projection: str


class WeightsDocument(TypedDict):
    """What changed in the weights."""

    total: ProductsDocument
    layers: list[LayerDocument]
    modules: list[ModuleDocument]


class DiffDocument(TypedDict):
    """What changed from one version to another; no `weights` between bases of other shapes."""

    before: SideDocument
    after: SideDocument
    base: list[ChangeDocument]
    config: list[ChangeDocument]
    hat: list[ChangeDocument]
    recipe: list[ChangeDocument]
    data: list[ChangeDocument]
    environment: list[ChangeDocument]
    metrics: list[ChangeDocument]
    weights: WeightsDocument | None
