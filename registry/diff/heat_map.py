"""The weights of a diff as a picture: layers down, projections across."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.errors import BaseMismatch, MissingExtra

from .versions import VersionDiff
from .weights import WeightsDiff

Grid = NDArray[np.float64]


def draw_heat_map(diff: VersionDiff, path: Path) -> None:
    """Write a PNG: the cosine of each update on both sides, and how its norm changed.

    Raises `MissingExtra` without matplotlib, and `BaseMismatch` where there is nothing to draw.
    """
    if diff.weights is None:
        raise BaseMismatch(
            f"{diff.before.ref} and {diff.after.ref} are for bases of other shapes: their weights "
            "cannot be compared",
            param="base",
        )
    try:
        # Not pyplot: that one opens windows and keeps every figure.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtra("a heat map", "plots") from None
    cosines, ratios = grids(diff.weights)
    figure = Figure(figsize=(2 + 1.6 * cosines.shape[1], 2 + 0.28 * cosines.shape[0]))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, cosines, diff.weights, title="cosine", limit=1.0)
    widest = float(np.nanmax(np.abs(ratios), initial=1.0))
    _panel(right, ratios, diff.weights, title="norm, log₂(after ∕ before)", limit=widest)
    left.set_ylabel("layer")
    figure.suptitle(f"{diff.before.ref} → {diff.after.ref}")
    figure.savefig(path, format="png", dpi=120, bbox_inches="tight")


def grids(weights: WeightsDiff) -> tuple[Grid, Grid]:
    """Cosines and log₂ norm ratios, [layers, projections]; NaN where a side has no update."""
    rows = {layer: row for row, layer in enumerate(weights.layers)}
    columns = {projection: column for column, projection in enumerate(weights.projections)}
    cosines = np.full((len(rows), len(columns)), math.nan)
    ratios = cosines.copy()
    for module in weights.modules:
        place, products = (rows[module.layer], columns[module.projection]), module.products
        if products.cosine is not None:
            cosines[place] = products.cosine
            ratios[place] = math.log2(products.norm_after / products.norm_before)
    return cosines, ratios


def _panel(axes: Any, grid: Grid, weights: WeightsDiff, *, title: str, limit: float) -> None:
    """One grid in a diverging palette around 0; what cannot be compared stays grey."""
    axes.set_facecolor("0.85")
    image = axes.imshow(grid, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_title(title)
    axes.set_xticks(range(grid.shape[1]), weights.projections, rotation=60, ha="right")
    axes.set_yticks(range(grid.shape[0]), [str(layer) for layer in weights.layers])
    axes.figure.colorbar(image, ax=axes)
